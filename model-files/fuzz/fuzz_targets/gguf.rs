//! Anybody's bytes as a GGUF file: read or refused, and what is believed lies inside the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model_files::gguf::{Header, facts};

fuzz_target!(|file: &[u8]| {
    let Ok(header) = Header::read(std::io::Cursor::new(file)) else {
        return;
    };
    let Ok(sizes) = header.sizes(file.len() as u64) else {
        return;
    };
    for (tensor, size) in header.tensors.iter().zip(&sizes) {
        assert!(header.data + tensor.offset + size <= file.len() as u64);
    }
    let _said = facts(&[(header, sizes)]);
});
