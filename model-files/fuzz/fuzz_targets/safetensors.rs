//! Anybody's bytes as a safetensors file, and as the configuration beside one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model_files::safetensors::{Config, Header, facts};

fuzz_target!(|file: &[u8]| {
    let header = Header::read(std::io::Cursor::new(file));
    if let Ok(header) = &header {
        let bytes: u64 = header.tensors.values().map(|tensor| tensor.bytes()).sum();
        assert!(bytes <= file.len() as u64);
    }
    let config = std::str::from_utf8(file).ok().and_then(|text| Config::of_text(text).ok());
    let headers: Vec<Header> = header.into_iter().collect();
    let _said = facts(&headers, &config.unwrap_or_default());
});
