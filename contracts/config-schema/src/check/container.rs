//! The rules of engines in containers that span several keys.

use std::collections::BTreeSet;
use std::path::Path;

use api_types::container::MountPath;
use secrecy::ExposeSecret;

use super::Checks;
use crate::container::Container;
use crate::pool_managerd::Pool;

/// Most mounts of one container.
const MAX_MOUNTS: usize = 64;

/// What a container has of its own; nothing can be mounted over it.
const OWN_FOLDERS: [&str; 6] = ["/", "/proc", "/sys", "/dev", "/tmp", "/llama-orch"];

/// What a type cannot say of a pool's container.
pub(super) fn check(
    pool: &Pool,
    container: &Container,
    at: &dyn Fn(&str) -> String,
    checks: &mut Checks<'_>,
) {
    mounts(container, at, checks);
    models(pool, at, checks);
    for (name, value) in &pool.env {
        checks.ensure(
            !value.expose_secret().contains(['\n', '\r']),
            &at(&format!(".env.{name}")),
            "has a line break, which no variable of a container can have",
        );
    }
}

fn mounts(container: &Container, at: &dyn Fn(&str) -> String, checks: &mut Checks<'_>) {
    let many = container.mounts.len();
    checks.ensure(
        many <= MAX_MOUNTS,
        &at(".container.mounts"),
        format!("has {many} mounts, at most {MAX_MOUNTS} are allowed"),
    );
    let mut targets = BTreeSet::new();
    for (index, mount) in container.mounts.iter().enumerate() {
        let key = at(&format!(".container.mounts[{index}].target"));
        let target = mount.target.as_path();
        let mut own = OWN_FOLDERS.iter().skip(1);
        let covers = target == Path::new("/") || own.any(|own| target.starts_with(own));
        checks.ensure(
            !covers,
            &key,
            format!(
                "must not be at or below {}: a container has its own there",
                OWN_FOLDERS.join(", ")
            ),
        );
        checks.ensure(
            targets.insert(target),
            &key,
            format!("{} is used twice", mount.target),
        );
    }
}

/// Model files are mounted.
fn models(pool: &Pool, at: &dyn Fn(&str) -> String, checks: &mut Checks<'_>) {
    let models = std::iter::once((at(".model"), &pool.model));
    let more = pool.models.iter().enumerate();
    let more = more.map(|(index, model)| (at(&format!(".models[{index}].model")), &model.model));
    for (key, model) in models.chain(more) {
        if let Some(Err(error)) = model.file_path().map(MountPath::new) {
            checks.ensure(
                false,
                &key,
                format!("cannot be mounted into the container: {error}"),
            );
        }
    }
}
