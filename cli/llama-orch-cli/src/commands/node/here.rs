//! What this box has: GPUs as the kernel's driver lists them, an engine in PATH. Reads, opens no device.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use config_schema::GpuUuid;

use crate::render::join::Gpu;

/// Where the NVIDIA driver lists its GPUs: a folder each, with a file of `Name: value` lines.
pub(super) const GPUS: &str = "/proc/driver/nvidia/gpus";

/// The engine's program.
const ENGINE: &str = "llama-server";

/// The GPUs, by their place on the bus; none where there is no driver.
pub(super) fn gpus(folder: &Path) -> Vec<Gpu> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut places: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    places.sort();
    let read = |place: PathBuf| gpu(&fs::read_to_string(place.join("information")).ok()?);
    places.into_iter().filter_map(read).collect()
}

fn gpu(information: &str) -> Option<Gpu> {
    let value = |name: &str| {
        let mut lines = information.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = lines.find(|(key, _)| key.trim() == name)?;
        Some(value.trim().to_owned())
    };
    Some(Gpu {
        uuid: value("GPU UUID").filter(|uuid| uuid.parse::<GpuUuid>().is_ok())?,
        name: value("Model").unwrap_or_default(),
    })
}

/// The engine's program in a search path.
pub(super) fn engine(search_path: &str) -> Option<PathBuf> {
    let places = search_path.split(':').filter(|folder| folder.starts_with('/'));
    places
        .map(|folder| Path::new(folder).join(ENGINE))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the driver writes it.
    const INFORMATION: &str = "Model: \t\t NVIDIA GeForce RTX 3090\nIRQ:   \t\t 134\n\
        GPU UUID: \t GPU-6f1f0d8e-1111-2222-3333-444444444444\nVideo BIOS: \t 94.02.26.08.1c\nBus Type: \t PCIe\n";

    /// REQ-NODE-JOIN.
    #[test]
    fn gpus_are_listed_as_the_driver_names_them() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(gpus(&folder.path().join("absent")), []);
        for (place, text) in [
            ("0000:41:00.0", INFORMATION.replace("6f1f", "7a7a").as_str()),
            ("0000:01:00.0", INFORMATION),
            ("0000:81:00.0", "Model: \t\t Unknown\nGPU UUID: \t GPU-????????\n"),
            ("0000:82:00.0", "nothing that is known"),
        ] {
            fs::create_dir(folder.path().join(place)).unwrap();
            fs::write(folder.path().join(place).join("information"), text).unwrap();
        }
        let found = gpus(folder.path());
        let uuids: Vec<_> = found.iter().map(|gpu| gpu.uuid.as_str()).collect();
        assert_eq!(
            uuids,
            [
                "GPU-6f1f0d8e-1111-2222-3333-444444444444",
                "GPU-7a7a0d8e-1111-2222-3333-444444444444"
            ]
        );
        assert_eq!(found[0].name, "NVIDIA GeForce RTX 3090");
    }

    #[test]
    fn an_engine_is_a_program_in_the_search_path() {
        let folder = tempfile::tempdir().unwrap();
        let (path, list) = (
            folder.path().join(ENGINE),
            format!("/nonexistent:{}", folder.path().display()),
        );
        assert_eq!(engine(&list), None);
        fs::write(&path, "").unwrap();
        assert_eq!(engine(&list), None, "nobody may run it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(engine(&list), Some(path));
    }
}
