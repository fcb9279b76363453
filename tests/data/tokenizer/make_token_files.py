"""Makes the token files in this folder (ftfy 6.3.1, regex, transformers 5.23).

    python make_token_files.py bpe_simple_vocab_16e6.txt.gz

openai.json: texts and ids as OpenAI's simple_tokenizer gives them, computed here from its description: ftfy, html.unescape twice,
white space, lower case, the word pattern, merges by rank; checked against the 40 rows of the reference data where that is present.
vocab.json, merges.txt, tokenizer_config.json: a small Hugging Face tokenizer that lacks tokens for bytes from 0x80 on and pads with
its own token; hugging_face.json: what transformers' CLIPTokenizer makes of the same texts.
"""

import gzip
import html
import json
import os
import pathlib
import random
import sys

import ftfy
import regex
from transformers import CLIPTokenizer

HERE = pathlib.Path(__file__).parent
START, END = "<|startoftext|>", "<|endoftext|>"
shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
hidden = [b for b in range(256) if b not in shown]
alphabet = {**{b: chr(b) for b in shown}, **{b: chr(256 + i) for i, b in enumerate(hidden)}}

pairs = [tuple(line.split()) for line in gzip.open(sys.argv[1]).read().decode().split("\n")[1 : 49152 - 256 - 1]]
tokens = [*alphabet.values(), *(c + "</w>" for c in alphabet.values()), *("".join(p) for p in pairs), START, END]
ids = {token: i for i, token in enumerate(tokens)}
ranks = {pair: i for i, pair in enumerate(pairs)}
WORDS = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)


def openai(text):
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    text = regex.sub(r"\s+", " ", text).strip().lower()
    out = []
    for word in WORDS.findall(text):
        if word in (START, END):
            out.append(ids[word])
            continue
        parts = [alphabet[b] for b in word.encode()]
        parts[-1] += "</w>"
        while True:
            known = [pair for pair in zip(parts, parts[1:]) if pair in ranks]
            if not known:
                break
            best, joined = min(known, key=ranks.get), []
            while parts:
                n = 2 if tuple(parts[:2]) == best else 1
                joined.append("".join(parts[:n]))
                parts = parts[n:]
            parts = joined
        out += [ids[part] for part in parts]
    return out


reference = pathlib.Path(os.environ.get("NADA_REFERENCE", "nowhere")) / "clip/tokens.json"
if reference.exists():
    for row in json.loads(reference.read_text())["rows"]:
        assert openai(row["text"]) == row["bpe_ids"], row["text"]

PIECES = (
    "a photo of the cat sketch it's don't I'm we'll antidisestablishment naïve café Ångström 3D 4567 $5 €6 &amp; &lt; &copy &notit;"
    " &#39; &#x41; &#128; &#0; &EACUTE; &nbsp; &amp;amp; <b> </b> <|startoftext|> <|ENDOFTEXT|> http://x.y/?q=a&b=c schÃ¶n itâ€™s"
    " â€œquotesâ€\x9d l’été “double” ‘single’ … — ﬁne ＦＵＬＬ ﾊﾝｶｸ 日本語 한국어 Привет مرحبا שלום हिन्दी 😀 👍🏽 👨‍👩‍👧‍👦 🇩🇪 e\u0301 A\u0301\u0323"
    " İstanbul ẞ ß ΣΑΣ 'ſ ⅷ ² ½ ① ٣ ǅ zero\u200bwidth nb\u00a0sp bom\ufeff \x00 \x07 \x1b[31mred\x1b[0m \x85 \x92 \u2028 \r\n \r \n \t"
    " \x0b \x0c \u3000 ~`^@#*(){}[] !!! <3 \\ a_b-c &quot;q&quot; Ã© ðŸ˜€ \ufffd ï¿½ &#xD800; &#x110000; &#xFFFE; &#99999999999; &gt"
    " &hellip; &Hellip; x&y &;"
).split(" ")
random.seed(3)
texts = PIECES + [random.choice(["", " ", "  ", "-"]).join(random.choices(PIECES, k=random.randint(2, 5))) for _ in range(150)]
rows = [{"text": text, "ids": openai(text)} for text in texts]
(HERE / "openai.json").write_text(json.dumps(rows, separators=(",", ":")).replace("},", "},\n") + "\n")

small = [pair for pair in pairs if all(ord(c) < 128 for c in "".join(pair))][:300]
vocab = [c for b, c in alphabet.items() if b < 128]
vocab = [*vocab, *(c + "</w>" for c in vocab), *("".join(pair) for pair in small), "<|padding|>", START, END]
(HERE / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocab)}))
(HERE / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in small) + "\n")
config = {"bos_token": START, "eos_token": {"content": END}, "pad_token": "<|padding|>", "tokenizer_class": "CLIPTokenizer"}
(HERE / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
hugging_face = CLIPTokenizer(vocab=str(HERE / "vocab.json"), merges=str(HERE / "merges.txt"), pad_token="<|padding|>")
rows = [{"text": text, "ids": hugging_face(text, add_special_tokens=False)["input_ids"]} for text in texts]
(HERE / "hugging_face.json").write_text(json.dumps(rows, separators=(",", ":")).replace("},", "},\n") + "\n")
