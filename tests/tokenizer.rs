//! Token ids against those of OpenAI's and Hugging Face's tokenizers.

mod common;

use common::{data, reference};
use nada::nn::clip::Tokenizer;
use nada::Kind;
use serde_json::Value;

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Compares every row before it fails, so that one run shows all that is wrong.
fn compare(rows: &[Value], text: &str, want: &str, encode: impl Fn(&str) -> Vec<u32>) {
    let mut wrong = Vec::new();
    for row in rows {
        let have = encode(row[text].as_str().unwrap());
        if have != ids(&row[want]) {
            wrong.push(format!("{}\n  have {have:?}\n  want {}", row[text], row[want]));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows differ:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn openai_reference_rows() {
    let folder = reference();
    let file: Value = serde_json::from_slice(&std::fs::read(folder.join("clip/tokens.json")).unwrap()).unwrap();
    let rows = file["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 40);
    let tokenizer = Tokenizer::openai().unwrap();
    assert_eq!((tokenizer.start(), tokenizer.end(), tokenizer.pad()), (49406, 49407, 0));
    compare(rows, "text", "bpe_ids", |text| tokenizer.encode(text).unwrap());
    compare(rows, "text", "tokens77_truncate", |text| tokenizer.tokenize(text, 77, true).unwrap());
    let mut too_long = 0;
    for row in rows {
        let result = tokenizer.tokenize(row["text"].as_str().unwrap(), 77, false);
        if row["too_long"].as_bool().unwrap() {
            let e = result.unwrap_err();
            assert_eq!(e.kind(), Kind::InvalidArgument);
            let message = e.to_string();
            assert!(message.contains(&format!("{} tokens", row["n_with_specials"])) && message.contains("takes 77"), "{message}");
            too_long += 1;
        } else {
            assert_eq!(result.unwrap(), ids(&row["tokens77_truncate"]));
        }
    }
    assert!(too_long > 0);
}

fn rows(name: &str) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(data("tokenizer").join(name)).unwrap()).unwrap()
}

fn small() -> Tokenizer {
    Tokenizer::open(&data("tokenizer/vocab.json"), &data("tokenizer/merges.txt")).unwrap()
}

#[test]
fn openai_rows() {
    let tokenizer = Tokenizer::openai().unwrap();
    compare(&rows("openai.json"), "text", "ids", |text| tokenizer.encode(text).unwrap());
}

#[test]
fn hugging_face_rows() {
    let tokenizer = small();
    compare(&rows("hugging_face.json"), "text", "ids", |text| tokenizer.encode(text).unwrap());
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn starter_expected_ids() {
    let folder = reference();
    let starter = folder.join("../starter");
    let texts: Vec<String> = serde_json::from_slice(&std::fs::read(starter.join("expected_texts.json")).unwrap()).unwrap();
    let expected = nada::checkpoint::open(&starter.join("expected.safetensors")).unwrap();
    let key = expected.keys().find(|key| key.contains("token_ids")).unwrap();
    let want = expected.tensor(key).unwrap().to_dtype(candle_core::DType::U32).unwrap().to_vec2::<u32>().unwrap();
    assert_eq!(want.len(), texts.len());
    let tokenizer = Tokenizer::open(&starter.join("clip-a/vocab.json"), &starter.join("clip-a/merges.txt")).unwrap();
    for (text, want) in texts.iter().zip(&want) {
        assert_eq!(&tokenizer.tokenize(text, want.len(), false).unwrap(), want, "{text}");
    }
}

#[test]
fn rows_are_padded_cut_or_refused() {
    let openai = Tokenizer::openai().unwrap();
    assert_eq!(openai.tokenize("a cat", 6, false).unwrap(), [49406, 320, 2368, 49407, 0, 0]);
    assert_eq!(openai.tokenize("a cat", 4, false).unwrap(), [49406, 320, 2368, 49407]);
    assert_eq!(openai.tokenize("a cat", 3, true).unwrap(), [49406, 320, 49407]);
    let e = openai.tokenize("a cat", 3, false).unwrap_err();
    assert_eq!(
        (e.kind(), e.to_string().as_str()),
        (Kind::InvalidArgument, "text: \"a cat\" is too long: 4 tokens with start and end, where this CLIP takes 3")
    );
    assert_eq!(openai.tokenize("a", 1, true).unwrap_err().kind(), Kind::InvalidArgument);
    assert_eq!(openai.encode(&"a ".repeat(10_000)).unwrap_err().kind(), Kind::InvalidArgument);
    // The folder's tokenizer pads with the token that its tokenizer_config.json names.
    let small = small();
    let (start, end, pad) = (small.start(), small.end(), small.pad());
    assert_eq!((start, end, pad), (pad + 1, pad + 2, end - 2));
    assert_eq!(small.tokenize("", 4, false).unwrap(), [start, end, pad, pad]);
}

#[test]
fn long_words_take_no_long_time() {
    let text: String = (0..12_000u32).map(|i| char::from(b'a' + (i.wrapping_mul(2_654_435_761) >> 20) as u8 % 26)).collect();
    let start = std::time::Instant::now();
    assert!(Tokenizer::openai().unwrap().encode(&text).unwrap().len() > 1000);
    // A prompt from outside must not hold a caller up; the time is about 0.5 s on a busy machine.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn broken_tables_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (vocab, merges) = (folder.path().join("vocab.json"), folder.path().join("merges.txt"));
    let good = r#"{"a":0,"b</w>":1,"ab</w>":2,"<|startoftext|>":3,"<|endoftext|>":4}"#;
    let open = |v: &str, m: &str| {
        std::fs::write(&vocab, v).unwrap();
        std::fs::write(&merges, m).unwrap();
        Tokenizer::open(&vocab, &merges)
    };
    let tokenizer = open(good, "#version: 0.2\na b</w>\n").unwrap();
    // 'c' has no token: the unknown token, which is the end token by default, stands for it; padding is the end token too.
    assert_eq!(tokenizer.tokenize("AB c", 6, false).unwrap(), [3, 2, 4, 4, 4, 4]);
    for (v, m, message) in [
        ("[1]", "", "vocab.json: is not a table"),
        ("{\"a\": -1}", "", "vocab.json: is not a table"),
        ("{\"a\": 0}", "", "vocab.json: has no token '<|startoftext|>', which is the bos_token"),
        (good, "a b</w> c", "merges.txt: line 1: 'a b</w> c' needs the token 'b</w> c'"),
        (good, "#version: 0.2\nab", "merges.txt: line 2: 'ab' is not two tokens"),
        (good, "a x", "needs the token 'x'"),
        (good, "b</w> a", "needs the token 'b</w>a'"),
    ] {
        let e = open(v, m).unwrap_err();
        assert_eq!(e.kind(), Kind::Format);
        assert!(e.to_string().contains(message), "{message}: {e}");
    }
    std::fs::remove_file(&merges).unwrap();
    assert_eq!(Tokenizer::open(&vocab, &merges).unwrap_err().kind(), Kind::NotFound);
    std::fs::write(&vocab, [0xff, 0xfe]).unwrap();
    assert!(Tokenizer::open(&vocab, &merges).unwrap_err().to_string().contains("not UTF-8"));
}
