//! REQ-PROVISION-LOCAL: files of this machine stay where they are, and only those of the configured folders are taken.

use std::fs;
use std::os::unix::fs::symlink;

use api_types::FilePlace;
use model_provisioner::{ProvisionError, Settings};
use tempfile::TempDir;

use crate::fixtures::{is_whole, model, plan, provisioner, pull, settings};

fn with_root(folder: &TempDir) -> Settings {
    let root = folder.path().join("models");
    fs::create_dir_all(&root).unwrap();
    Settings {
        model_roots: vec![root],
        ..settings(folder, &[])
    }
}

#[tokio::test]
async fn a_file_is_registered_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let with = provisioner(with_root(&folder));
    let path = folder.path().join("models/sub/m.gguf");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, model(1)).unwrap();
    let absolute = format!("file:{}", path.display());
    for reference in [absolute.as_str(), "sub/m.gguf"] {
        let entry = pull(&with, reference).await.unwrap();
        is_whole(&with, &entry);
        let real = path.canonicalize().unwrap();
        assert_eq!(
            entry.files[0].place,
            FilePlace::External(real.to_str().unwrap().to_owned())
        );
        with.catalog().remove_model(&entry.id, 5).unwrap();
        assert!(path.exists());
    }
    // Another content under the same name is another model.
    pull(&with, "sub/m.gguf").await.unwrap();
    fs::write(&path, model(2)).unwrap();
    let taken = pull(&with, "sub/m.gguf").await.unwrap_err();
    assert!(matches!(taken, ProvisionError::Catalog(_)), "{taken}");
}

#[tokio::test]
async fn what_is_outside_is_refused_wherever_a_link_is() {
    let folder = tempfile::tempdir().unwrap();
    let with = provisioner(with_root(&folder));
    let root = folder.path().join("models");
    let outside = folder.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("m.gguf"), model(1)).unwrap();
    symlink(outside.join("m.gguf"), root.join("link.gguf")).unwrap();
    symlink(&outside, root.join("folder")).unwrap();
    for reference in [
        format!("file:{}/m.gguf", outside.display()),
        "models/../outside".to_owned(),
        "folder/m.gguf".to_owned(),
        format!("file:{}/link.gguf", root.display()),
        "file:/etc/passwd".to_owned(),
    ] {
        let Ok(reference) = reference.parse::<api_types::ModelRef>() else {
            continue;
        };
        let refused = plan(&with, reference.as_str()).await.unwrap_err();
        assert!(
            matches!(
                refused,
                ProvisionError::Outside { .. } | ProvisionError::NotFound { .. }
            ),
            "{reference}: {refused}"
        );
    }
    let missing = plan(&with, "sub/none.gguf").await.unwrap_err();
    assert!(matches!(missing, ProvisionError::NotFound { .. }), "{missing}");
    let code = root.join("x.pt");
    fs::write(&code, "pickle").unwrap();
    let refused = plan(&with, &format!("file:{}", code.display()))
        .await
        .unwrap_err();
    assert!(matches!(refused, ProvisionError::Code { .. }), "{refused}");
}
