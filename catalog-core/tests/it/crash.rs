//! ORCH-3440: a catalog whose writer is killed, or whose disk fails, at any moment has every change that was acknowledged,
//! and nothing that is not whole.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use catalog_core::{Catalog, CatalogError, Filter};
use test_harness_support::faulty_disk::FaultyDisk;

use crate::fixtures::{Fixture, publish};

/// Names the folder for [`writer`]; without it that test has nothing to do.
const ROOT: &str = "CATALOG_WRITER_ROOT";
const FIRST: &str = "CATALOG_WRITER_FIRST";
/// A model that the writer never removes.
const BASE: &str = "m4000000000";

/// Enough to meet every step between two acknowledgements; a step lasts as long as a sync.
const KILLS: u32 = 40;

#[expect(clippy::disallowed_methods, reason = "how the writer is told that it is one")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The process that is killed: registers and removes models as fast as it can, and says what has been acknowledged.
#[test]
fn writer() {
    let (Some(root), Some(first)) = (variable(ROOT), variable(FIRST)) else {
        return;
    };
    let (root, catalog) = (Path::new(&root), Catalog::at(Path::new(&root)));
    let base = publish(root, BASE, "weights of the base").unwrap();
    let mut out = std::io::stdout().lock();
    for number in first.parse::<u32>().unwrap()..u32::MAX {
        // A disk that takes no file still has to be asked for the index.
        let published = publish(root, &format!("m{number}"), &format!("weights {number}"));
        let removes = published.is_ok() && number.is_multiple_of(3);
        let entry = published.unwrap_or_else(|_| base.clone());
        let id = entry.id.clone();
        writeln!(out, "\ntry {id}").unwrap();
        match catalog.register_model(entry, 5) {
            Ok(_) => writeln!(out, "\nregistered {id}").unwrap(),
            Err(error) => writeln!(out, "\nfailed {error}").unwrap(),
        }
        if removes && catalog.remove_model(&id, 5).is_ok() {
            writeln!(out, "\nremoved {id}").unwrap();
        }
    }
}

fn start(root: &Path, first: u32, environment: &[(&str, std::path::PathBuf)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::writer", "--nocapture"])
        .env(ROOT, root)
        .env(FIRST, first.to_string())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the writer has said.
#[derive(Default)]
struct Said {
    tried: BTreeSet<String>,
    registered: BTreeSet<String>,
    removed: BTreeSet<String>,
}

impl Said {
    fn hear(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("try", id)) => self.tried.insert(id.to_owned()),
            Some(("registered", id)) => self.registered.insert(id.to_owned()),
            Some(("removed", id)) => self.registered.remove(id) | self.removed.insert(id.to_owned()),
            _ => false,
        };
    }

    fn holds(&self, catalog: &Catalog) {
        let page = catalog.models(Filter::default(), usize::MAX).unwrap();
        let there: BTreeSet<String> = page.entries.iter().map(|entry| entry.id.to_string()).collect();
        for id in &there {
            let located = catalog.locate(&id.parse().unwrap()).unwrap().unwrap();
            assert_eq!(located.missing, [], "{id} is registered without its file");
            assert!(self.tried.contains(id) && !self.removed.contains(id), "{id}");
        }
        // A removal that was begun and not acknowledged may have happened.
        let removable = |id: &&String| id[1..].parse::<u32>().unwrap().is_multiple_of(3);
        let lost: Vec<_> = self
            .registered
            .difference(&there)
            .filter(|id| !removable(id))
            .collect();
        assert!(lost.is_empty(), "lost {lost:?}");
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kills() {
    let fixture = Fixture::new();
    let mut said = Said::default();
    for kill in 0..KILLS {
        let mut writer = start(fixture.root(), kill * 1_000, &[]);
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        // Kills come behind another number of lines each time, so at every place of the loop.
        for line in lines.by_ref().take(6 + kill as usize) {
            said.hear(&line.unwrap());
        }
        writer.kill().unwrap();
        for line in lines {
            said.hear(&line.unwrap());
        }
        writer.wait().unwrap();
        said.holds(&fixture.catalog);
    }
    assert!(
        said.registered.len() > KILLS as usize,
        "{}",
        said.registered.len()
    );
    // The next writer finds nothing in its way, and what removals have left goes.
    fixture.registered("after", "weights");
    let swept = fixture
        .catalog
        .sweep(std::time::Duration::ZERO, u64::MAX)
        .unwrap();
    assert_eq!(swept.left, []);
    said.tried.insert("after".to_owned());
    said.holds(&fixture.catalog);
}

/// The next line that begins so; what is said on the way is heard.
fn until(lines: &mut impl Iterator<Item = String>, said: &mut Said, word: &str) -> String {
    let mut heard = lines.inspect(|line| said.hear(line));
    heard
        .find(|line| line.starts_with(word))
        .expect("the writer goes on until it is killed")
}

#[test]
fn a_disk_that_fails_costs_the_change_and_nothing_else() {
    let fixture = Fixture::new();
    let disk = FaultyDisk::new().unwrap();
    let mut said = Said::default();
    disk.set("").unwrap();
    let mut writer = start(fixture.root(), 0, &disk.environment());
    let mut lines = BufReader::new(writer.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    for fault in ["sync EIO", "append ENOSPC", "append EIO"] {
        until(&mut lines, &mut said, "registered");
        disk.set(fault).unwrap();
        let failed = until(&mut lines, &mut said, "failed");
        assert!(
            failed.contains("cannot be used") || failed.contains("is full"),
            "{failed}"
        );
        said.holds(&fixture.catalog);
        disk.set("").unwrap();
    }
    writer.kill().unwrap();
    for line in lines {
        said.hear(&line);
    }
    writer.wait().unwrap();
    said.holds(&fixture.catalog);
}

/// A crash between two steps leaves one of these; each is found and none is believed.
#[test]
fn what_a_crash_leaves_between_two_steps_is_harmless() {
    let fixture = Fixture::new();
    let kept = fixture.registered("kept", "weights");
    // Before the rename: the next index, half-written.
    let whole = fs::read(fixture.root().join("models.json")).unwrap();
    fs::write(fixture.root().join("models.json.new"), &whole[..whole.len() / 2]).unwrap();
    assert_eq!(fixture.catalog.model(&kept.id).unwrap(), Some(kept.clone()));
    // Between publishing and registering.
    let published = fixture.published("other", "other weights");
    assert_eq!(fixture.catalog.model(&published.id).unwrap(), None);
    fixture.catalog.register_model(published, 5).unwrap();
    // Between noting what is doomed and removing it: the file is gone, the note is not.
    let path = fixture.root().join("models.json");
    let doomed = fs::read_to_string(&path).unwrap().replacen(
        "\"entries\"",
        "\"doomed\": [\"models/gone/0/m.gguf\"], \"entries\"",
        1,
    );
    fs::write(&path, doomed).unwrap();
    let swept = fixture.catalog.sweep(std::time::Duration::ZERO, 0).unwrap();
    assert_eq!(swept.left, []);
    assert!(!fs::read_to_string(&path).unwrap().contains("doomed"));
    assert_eq!(fixture.catalog.model(&kept.id).unwrap(), Some(kept));
}

/// Twenty writers at once, each of which changes what another has just changed.
#[test]
fn writers_take_turns() {
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        for number in 0..20 {
            let root = fixture.root();
            scope.spawn(move || {
                let entry = publish(root, &format!("m{number}"), &format!("weights {number}")).unwrap();
                Catalog::at(root).register_model(entry, 5).unwrap();
            });
        }
    });
    let page = fixture.catalog.models(Filter::default(), 99).unwrap();
    assert_eq!(page.entries.len(), 20);
    let missing = Catalog::at(&fixture.dir.path().join("file"));
    fs::write(fixture.dir.path().join("file"), "no folder").unwrap();
    let refused = missing
        .register_engine(crate::fixtures::engine("e", "1"), 5)
        .unwrap_err();
    assert!(matches!(refused, CatalogError::Io { .. }), "{refused}");
}
