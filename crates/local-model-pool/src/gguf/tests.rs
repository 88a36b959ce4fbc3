use std::io::Cursor as Bytes;

use super::*;

const DEMO: &[u8] = include_bytes!("../../../../models/demo.gguf");

fn read(bytes: &[u8]) -> Result<Header, GgufError> {
    Header::read(Bytes::new(bytes), bytes.len() as u64)
}

/// Where the tensor data starts: everything before it is header.
fn header_end() -> usize {
    let weights = usize::try_from(read(DEMO).unwrap().weights.get()).unwrap();
    // All tensors of the demo model are multiples of the alignment long, so that nothing lies between them.
    DEMO.len() - weights
}

/// The demo model with `find` replaced by `replacement` of the same length, once, in the header.
fn with(find: &[u8], replacement: &[u8]) -> Vec<u8> {
    assert_eq!(find.len(), replacement.len());
    let mut bytes = DEMO.to_vec();
    let at = bytes.windows(find.len()).position(|window| window == find).expect("the bytes to replace");
    bytes[at..at + find.len()].copy_from_slice(replacement);
    bytes
}

/// The demo model with what follows a key's name overwritten.
fn with_after(key: &str, skip: usize, replacement: &[u8]) -> Vec<u8> {
    let mut bytes = DEMO.to_vec();
    let at = bytes.windows(key.len()).position(|window| window == key.as_bytes()).expect("the key");
    let at = at + key.len() + skip;
    bytes[at..at + replacement.len()].copy_from_slice(replacement);
    bytes
}

#[test]
fn the_demo_model_says_what_it_is() {
    let header = read(DEMO).unwrap();
    assert_eq!((header.version, header.tensors), (3, 56));
    let model = &header.metadata;
    assert_eq!((model.architecture.as_str(), model.name.as_str()), ("llama", "Pocket demo"));
    assert_eq!((model.context_length, model.layers, model.embedding_length), (512, 6, 160));
    assert_eq!((model.heads, model.key_length, model.value_length), (5, 32, 32));
    assert_eq!((model.kv_heads.as_slice(), model.vocabulary), ([5; 6].as_slice(), 2048));
    assert!(model.chat_template.as_ref().unwrap().contains("<|im_start|>"));
    assert!(!model.pooling && !model.is_encoder());
    assert_eq!(header.file_size.get(), DEMO.len() as u64);
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let header = header_end();
    let inside = (0..header).step_by(61).chain([header - 1, header, header + 1, DEMO.len() - 1]);
    for length in inside {
        assert!(read(&DEMO[..length]).is_err(), "cut at {length} was accepted");
    }
}

#[test]
fn a_cut_file_says_where_the_tensors_should_end() {
    let error = read(&DEMO[..DEMO.len() - 1]).unwrap_err();
    let (end, size) = (DEMO.len() as u64, DEMO.len() as u64 - 1);
    assert!(
        matches!(error, GgufError::DataTruncated { end: e, size: s } if (e, s) == (end, size)),
        "{error:?}"
    );
}

#[test]
fn no_flipped_byte_of_the_header_does_harm() {
    // Accepting is fine where the byte is part of a text; panicking or taking memory for a wild count is not.
    let mut bytes = DEMO.to_vec();
    for position in (0..2_000).chain((2_000..header_end()).step_by(97)) {
        for mask in [0xff, 0x80, 0x01] {
            bytes[position] ^= mask;
            let _accepted_or_refused = read(&bytes);
            bytes[position] ^= mask;
        }
    }
}

#[test]
fn another_kind_of_file_is_named() {
    let error = read(&with(b"GGUF", b"PK\x03\x04")).unwrap_err();
    assert!(matches!(error, GgufError::Magic([b'P', b'K', 3, 4])), "{error:?}");
    assert!(matches!(read(b"GG").unwrap_err(), GgufError::Truncated { size: 2, .. }));
}

#[test]
fn other_versions_and_byte_orders_are_refused() {
    for version in [0_u32, 1, 4, 3_u32.swap_bytes()] {
        let mut bytes = DEMO.to_vec();
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        assert!(matches!(read(&bytes).unwrap_err(), GgufError::Version(found) if found == version));
    }
}

#[test]
fn a_count_that_the_file_cannot_hold_is_refused_before_memory_is_taken() {
    for (at, wild) in [(8, u64::MAX), (8, 1 << 40), (16, u64::MAX), (16, 1 << 30)] {
        let mut bytes = DEMO.to_vec();
        bytes[at..at + 8].copy_from_slice(&wild.to_le_bytes());
        let error = read(&bytes).unwrap_err();
        assert!(matches!(error, GgufError::Count { count, .. } if count == wild), "{error:?}");
    }
    // The vocabulary's length, after the key, the type of the value and the type of its items.
    let error = read(&with_after("tokenizer.ggml.tokens", 8, &u64::MAX.to_le_bytes())).unwrap_err();
    assert!(matches!(error, GgufError::Count { count: u64::MAX, .. }), "{error:?}");
}

#[test]
fn a_length_that_overflows_is_refused() {
    let error = read(&with_after("general.architecture", 4, &u64::MAX.to_le_bytes())).unwrap_err();
    assert!(matches!(error, GgufError::Count { count: u64::MAX, .. }), "{error:?}");
}

#[test]
fn unknown_types_are_refused() {
    let error = read(&with_after("general.architecture", 0, &99_u32.to_le_bytes())).unwrap_err();
    assert!(matches!(&error, GgufError::Metadata { key, .. } if key == "general.architecture"), "{error:?}");
    // After the name: number of dimensions, two dimensions, type.
    let error = read(&with_after("token_embd.weight", 20, &4_u32.to_le_bytes())).unwrap_err();
    assert!(matches!(&error, GgufError::Tensor { name, .. } if name == "token_embd.weight"), "{error:?}");
}

#[test]
fn impossible_shapes_and_places_are_refused() {
    let cases: [(usize, Vec<u8>); 4] = [
        (0, 5_u32.to_le_bytes().to_vec()),
        (4, 161_u64.to_le_bytes().to_vec()),
        (12, u64::MAX.to_le_bytes().to_vec()),
        (24, 64_u64.to_le_bytes().to_vec()),
    ];
    for (skip, bytes) in cases {
        let error = read(&with_after("token_embd.weight", skip, &bytes)).unwrap_err();
        assert!(matches!(&error, GgufError::Tensor { name, .. } if name == "token_embd.weight"), "{error:?}");
    }
}

#[test]
fn a_tensor_beyond_the_end_of_the_file_is_refused() {
    let error = read(&with_after("blk.5.ffn_down.weight", 12, &(1_u64 << 32).to_le_bytes())).unwrap_err();
    assert!(matches!(error, GgufError::DataTruncated { .. }), "{error:?}");
}

#[test]
fn a_key_or_tensor_that_occurs_twice_is_refused() {
    let error = read(&with(b"blk.1.attn_norm.weight", b"blk.0.attn_norm.weight")).unwrap_err();
    assert!(matches!(&error, GgufError::Duplicate(name) if name == "blk.0.attn_norm.weight"), "{error:?}");
}

#[test]
fn absurd_hyperparameters_name_their_key() {
    for key in ["llama.block_count", "llama.embedding_length", "llama.context_length"] {
        for wild in [0, u32::MAX] {
            let error = read(&with_after(key, 4, &wild.to_le_bytes())).unwrap_err();
            assert!(matches!(&error, GgufError::Metadata { key: named, .. } if named == key), "{error:?}");
        }
    }
}

#[test]
fn a_missing_hyperparameter_names_its_key() {
    let error = read(&with(b"llama.block_count", b"llama.block_counx")).unwrap_err();
    assert!(
        matches!(&error, GgufError::Metadata { key, found, .. } if key == "llama.block_count" && found == "missing")
    );
}

#[test]
#[expect(unsafe_code, reason = "asks llama.cpp itself for the sizes that the table repeats")]
fn the_table_of_tensor_types_is_llama_cpps() {
    for number in 0..llama_cpp_sys_2::GGML_TYPE_COUNT {
        let (block, bytes) =
            unsafe { (llama_cpp_sys_2::ggml_blck_size(number), llama_cpp_sys_2::ggml_type_size(number)) };
        let theirs = (block > 0 && bytes > 0)
            .then(|| TensorType { block: u64::try_from(block).unwrap(), bytes: bytes as u64 });
        assert_eq!(TensorType::new(number), theirs, "type {number}");
    }
}
