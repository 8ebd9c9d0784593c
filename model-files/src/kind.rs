//! What a file is, by its name. Pure.

/// What a file of a model's repository is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// GGUF.
    Gguf,
    /// Safetensors.
    Safetensors,
    /// Configuration, tokenizer, template, licence: text that engines read and nobody executes.
    Text,
    /// Something that loading it executes, or may: pickles, programs, archives of them.
    Code,
    /// Anything else: pictures, attributes of version control.
    Other,
}

const TEXT: [&str; 6] = ["json", "txt", "jinja", "md", "model", "tiktoken"];
const CODE: [&str; 26] = [
    "bin", "pt", "pth", "pkl", "pickle", "ckpt", "joblib", "dill", "npy", "npz", "h5", "hdf5", "keras", "pb",
    "py", "pyc", "pyd", "ipynb", "so", "dll", "dylib", "exe", "sh", "jar", "zip", "tar",
];
/// Names without an ending that belong to a model.
const TEXT_NAMES: [&str; 4] = ["license", "notice", "use_policy", "readme"];

impl FileKind {
    /// By the ending of the name, in any case. What has several endings is what any of them makes it, code first: a pickle
    /// stays one behind `.bin.gz`.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
        let last = name.rsplit_once('.').map(|(_, ending)| ending);
        let is_code = |ending: &str| CODE.contains(&ending);
        match last {
            Some("gguf") => Self::Gguf,
            Some("safetensors") => Self::Safetensors,
            Some(ending) if is_code(ending) || is_packed(ending) && name.split('.').skip(1).any(is_code) => {
                Self::Code
            }
            Some(ending) if TEXT.contains(&ending) => Self::Text,
            None if TEXT_NAMES.contains(&name.as_str()) => Self::Text,
            Some(_) | None => Self::Other,
        }
    }
}

fn is_packed(ending: &str) -> bool {
    matches!(ending, "gz" | "bz2" | "xz" | "zst" | "lz4" | "7z" | "rar" | "tgz")
}

/// A part of a model in several files: `NAME-00001-of-00003.gguf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitName<'a> {
    /// What all parts have before their number.
    pub stem: &'a str,
    /// Which part, from 1.
    pub number: u64,
    /// How many there are.
    pub of: u64,
    /// The ending, with its dot.
    pub ending: &'a str,
}

impl<'a> SplitName<'a> {
    /// `None` for a name that is not of this form.
    #[must_use]
    pub fn parse(name: &'a str) -> Option<Self> {
        let dot = name.rfind('.')?;
        let (rest, ending) = name.split_at(dot);
        let (rest, of) = rest.rsplit_once("-of-")?;
        let (stem, digits) = rest.rsplit_once('-')?;
        let number = |digits: &str| {
            let plain = digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u64>().ok().filter(|_| plain)
        };
        let (number, of) = (number(digits)?, number(of)?);
        (1..=of).contains(&number).then_some(Self {
            stem,
            number,
            of,
            ending,
        })
    }

    /// The name of another part.
    #[must_use]
    pub fn part(&self, number: u64) -> String {
        format!("{}-{number:05}-of-{:05}{}", self.stem, self.of, self.ending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// REQ-MODEL-CODE: what loading executes is told by its name.
    #[test]
    fn kinds() {
        for (name, kind) in [
            ("m.gguf", FileKind::Gguf),
            ("a/M.GGUF", FileKind::Gguf),
            ("model-00001-of-00002.safetensors", FileKind::Safetensors),
            ("config.json", FileKind::Text),
            ("tokenizer.model", FileKind::Text),
            ("chat_template.jinja", FileKind::Text),
            ("LICENSE", FileKind::Text),
            ("pytorch_model.bin", FileKind::Code),
            ("consolidated.00.PTH", FileKind::Code),
            ("modeling_x.py", FileKind::Code),
            ("weights.pkl.gz", FileKind::Code),
            ("pytorch_model.bin.index.json", FileKind::Text),
            (".gitattributes", FileKind::Other),
            ("a.png", FileKind::Other),
        ] {
            assert_eq!(FileKind::of(name), kind, "{name}");
        }
    }

    #[test]
    fn parts_are_named_alike() {
        let split = SplitName::parse("a-b-00002-of-00003.gguf").unwrap();
        assert_eq!((split.stem, split.number, split.of), ("a-b", 2, 3));
        assert_eq!(split.part(1), "a-b-00001-of-00003.gguf");
        for name in [
            "a.gguf",
            "a-2-of-3.gguf",
            "a-00004-of-00003.gguf",
            "a-00000-of-00003.gguf",
            "a-0000x-of-00003.gguf",
        ] {
            assert_eq!(SplitName::parse(name), None, "{name}");
        }
    }
}
