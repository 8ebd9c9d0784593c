//! REQ-ARTIFACT-API, REQ-ARTIFACT-RETENTION: store, list, page, sweep and restart agree with a plain list.

use std::collections::BTreeSet;

use api_types::{ArtifactId, ArtifactKind};
use artifact_store::{Filter, PutError};
use proptest::prelude::*;

use crate::fixtures::{Fixture, ROOMY, at, new};

/// A step of a test.
#[derive(Debug, Clone)]
enum Step {
    Put { content: u8, diff: bool, tag: u8 },
    Append { tag: u8 },
    Pass { ms: u64 },
    Sweep,
    Restart,
}

/// An artifact as it should be.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    id: ArtifactId,
    content: Vec<u8>,
    kind: ArtifactKind,
    tags: BTreeSet<String>,
    kept_from_ms: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..6_u8, any::<bool>(), 0..4_u8).prop_map(|(content, diff, tag)| Step::Put { content, diff, tag }),
        4 => (0..4_u8).prop_map(|tag| Step::Append { tag }),
        3 => (0..700_u64).prop_map(|ms| Step::Pass { ms }),
        2 => Just(Step::Sweep),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

fn tag_of(tag: u8) -> String {
    format!("tag:{tag}")
}

/// Oldest first.
#[derive(Default)]
struct Model {
    known: Vec<Known>,
    now_ms: u64,
    appended: u32,
}

impl Model {
    fn step(&mut self, fixture: &mut Fixture, step: &Step) {
        match step {
            Step::Put { content, diff, tag } => self.put(fixture, *content, *diff, *tag),
            Step::Append { tag } => {
                self.appended += 1;
                let content = format!("trace {}", self.appended).into_bytes();
                let id = fixture
                    .append(&content, &[&tag_of(*tag)], self.now_ms)
                    .unwrap()
                    .meta
                    .info
                    .id;
                self.add(id, content, ArtifactKind::Trace, *tag);
            }
            Step::Pass { ms } => self.now_ms += ms,
            Step::Sweep => {
                let expired = self.expire();
                assert_eq!(fixture.store.sweep(self.now_ms).expired, expired);
            }
            Step::Restart => {
                self.expire();
                fixture.reopen(self.now_ms);
            }
        }
    }

    fn expire(&mut self) -> usize {
        let before = self.known.len();
        let now = self.now_ms;
        self.known
            .retain(|known| known.kept_from_ms + ROOMY.max_age_ms > now);
        before - self.known.len()
    }

    fn put(&mut self, fixture: &Fixture, content: u8, diff: bool, tag: u8) {
        let kind = if diff {
            ArtifactKind::Diff
        } else {
            ArtifactKind::Plan
        };
        let bytes = vec![content; 1 + usize::from(content) * 3000];
        let tag_text = tag_of(tag);
        let put = fixture
            .store
            .put(&new(kind, &bytes, &[&tag_text]), at(self.now_ms));
        match self.known.iter_mut().find(|known| known.content == bytes) {
            Some(known) if known.kind != kind => assert!(matches!(put, Err(PutError::Differs { .. }))),
            Some(known) => {
                known.tags.insert(tag_text);
                known.kept_from_ms = self.now_ms;
                assert!(!put.unwrap().created);
            }
            None => {
                let put = put.unwrap();
                assert!(put.created);
                self.add(put.meta.info.id, bytes, kind, tag);
            }
        }
    }

    fn add(&mut self, id: ArtifactId, content: Vec<u8>, kind: ArtifactKind, tag: u8) {
        self.known.push(Known {
            id,
            content,
            kind,
            tags: BTreeSet::from([tag_of(tag)]),
            kept_from_ms: self.now_ms,
        });
    }

    fn agrees(&self, fixture: &Fixture) {
        let newest_first: Vec<ArtifactId> = self.known.iter().rev().map(|known| known.id).collect();
        assert_eq!(paged(fixture, &Filter::default(), 3), newest_first);
        let tagged = |tag: &str| -> Vec<ArtifactId> {
            let with_it = self.known.iter().rev().filter(|known| known.tags.contains(tag));
            with_it.map(|known| known.id).collect()
        };
        for tag in (0..4).map(tag_of) {
            let filter = Filter {
                tag: Some(tag.parse().unwrap()),
                ..Filter::default()
            };
            assert_eq!(paged(fixture, &filter, 2), tagged(&tag));
        }
        for known in &self.known {
            let stored = fixture.store.get(&known.id).unwrap().unwrap();
            assert_eq!(
                (&stored.content, stored.meta.info.kind),
                (&known.content, known.kind)
            );
        }
    }
}

/// All pages of a list, each asked for with the end of the one before.
fn paged(fixture: &Fixture, filter: &Filter, limit: usize) -> Vec<ArtifactId> {
    let mut ids = Vec::new();
    let mut filter = filter.clone();
    loop {
        let page = fixture.store.list(&filter, limit);
        ids.extend(page.iter().map(|meta| meta.info.id));
        match page.last() {
            Some(last) if page.len() == limit => filter.before = Some(last.seq),
            _ => return ids,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_store_is_a_plain_list(steps in steps()) {
        let mut fixture = Fixture::new(ROOMY);
        let mut model = Model::default();
        for step in &steps {
            model.step(&mut fixture, step);
            model.agrees(&fixture);
        }
        model.step(&mut fixture, &Step::Restart);
        model.agrees(&fixture);
    }
}

/// What is stored or removed between two pages neither repeats nor hides anything that was there all the time.
#[test]
fn a_page_goes_on_where_the_one_before_ended() {
    let fixture = Fixture::new(ROOMY);
    let ids: Vec<_> = (0..9_u8)
        .map(|n| fixture.put(&[n], &[], 0).unwrap().meta)
        .collect();
    let first = fixture.store.list(&Filter::default(), 4);
    fixture.append(b"meanwhile", &[], 0).unwrap();
    let rest = Filter {
        before: first.last().map(|meta| meta.seq),
        ..Filter::default()
    };
    let second = fixture.store.list(&rest, 9);
    let seen: Vec<_> = first.iter().chain(&second).map(|meta| meta.info.id).collect();
    let expected: Vec<_> = ids.iter().rev().map(|meta| meta.info.id).collect();
    assert_eq!(seen, expected);
}
