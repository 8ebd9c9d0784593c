//! Which distribution this is, and the names that things have in its packages. Pure.

/// By what its packages are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distribution {
    CachyOs,
    Arch,
    Ubuntu,
    Debian,
    Fedora,
    /// Its packages are not known here.
    Other,
}

impl Distribution {
    /// From the text of `/etc/os-release`. A distribution that is made from a known one counts as that.
    pub(crate) fn of(os_release: &str) -> Self {
        let value = |key: &str| {
            let mut lines = os_release.lines().filter_map(|line| line.split_once('='));
            let (_, value) = lines.find(|(name, _)| *name == key)?;
            Some(value.trim_matches(['"', '\'']))
        };
        let names = [value("ID"), value("ID_LIKE")].into_iter().flatten();
        let mut names = names.flat_map(str::split_whitespace);
        let known = |name: &str| {
            Some(match name {
                "cachyos" => Self::CachyOs,
                "arch" | "manjaro" | "endeavouros" => Self::Arch,
                "ubuntu" => Self::Ubuntu,
                "debian" => Self::Debian,
                "fedora" | "rhel" => Self::Fedora,
                _ => return None,
            })
        };
        names.find_map(known).unwrap_or(Self::Other)
    }

    /// Brings the driver.
    pub(crate) const fn driver(self) -> &'static str {
        match self {
            Self::CachyOs => "sudo chwd -a    # installs the driver that fits kernel and GPU",
            Self::Arch => {
                "sudo pacman -S --needed nvidia-open nvidia-utils    # nvidia-open-dkms for other kernels"
            }
            Self::Ubuntu => "sudo ubuntu-drivers install",
            Self::Debian => "sudo apt install nvidia-driver    # from non-free",
            Self::Fedora => "sudo dnf install akmod-nvidia xorg-x11-drv-nvidia-cuda    # from RPM Fusion",
            Self::Other => "# install the NVIDIA driver, 510 or newer, with libnvidia-ml.so.1",
        }
    }

    /// Brings the compiler for GPUs.
    pub(crate) const fn cuda_toolkit(self) -> &'static str {
        match self {
            Self::CachyOs | Self::Arch => "sudo pacman -S --needed cuda",
            Self::Ubuntu | Self::Debian => "sudo apt install nvidia-cuda-toolkit",
            Self::Fedora => "sudo dnf install cuda-toolkit    # from NVIDIA's repository",
            Self::Other => "# install the CUDA toolkit, with nvcc",
        }
    }

    /// Brings what containers need.
    pub(crate) const fn containers(self) -> &'static str {
        match self {
            Self::CachyOs | Self::Arch => "sudo pacman -S --needed podman nvidia-container-toolkit",
            Self::Ubuntu | Self::Debian => {
                "sudo apt install podman nvidia-container-toolkit    # the latter from NVIDIA's repository"
            }
            Self::Fedora => {
                "sudo dnf install podman nvidia-container-toolkit    # the latter from NVIDIA's repository"
            }
            Self::Other => "# install podman and nvidia-container-toolkit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_known_by_themselves_or_their_parents() {
        for (text, known) in [
            (
                "NAME=\"CachyOS Linux\"\nID=cachyos\nID_LIKE=arch\n",
                Distribution::CachyOs,
            ),
            ("ID=arch\n", Distribution::Arch),
            ("ID=garuda\nID_LIKE=\"arch\"\n", Distribution::Arch),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Distribution::Ubuntu),
            ("PRETTY_NAME=\"Debian\"\nID=debian\n", Distribution::Debian),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                Distribution::Fedora,
            ),
            ("ID=nixos\n", Distribution::Other),
            ("", Distribution::Other),
        ] {
            assert_eq!(Distribution::of(text), known, "{text}");
        }
    }
}
