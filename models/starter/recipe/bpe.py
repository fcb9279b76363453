"""Byte-pair tokenizer in CLIP's file formats: training, and encoding without the byte fallback (captions are plain ASCII)."""
import collections
import json
import re

WORD = re.compile(r'[a-z]+|[0-9]|[^\sa-z0-9]+')
START, END = '<|startoftext|>', '<|endoftext|>'


def byte_letters():
    """CLIP's printable letter for every byte, in vocabulary order."""
    codes = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters = codes[:]
    extra = 0
    for b in range(256):
        if b not in codes:
            codes.append(b)
            letters.append(256 + extra)
            extra += 1
    return [chr(c) for c in letters]


def split_word(word):
    return list(word[:-1]) + [word[-1] + '</w>']


def join_pair(symbols, a, b):
    out = []
    i = 0
    while i < len(symbols):
        if i + 1 < len(symbols) and symbols[i] == a and symbols[i + 1] == b:
            out.append(a + b)
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


def train(corpus, merge_count=1500):
    """-> (token -> id, merges); at most `merge_count` merges, fewer where every word is one token."""
    word_count = collections.Counter()
    for text in corpus:
        word_count.update(WORD.findall(text.lower()))
    words = {w: split_word(w) for w in word_count}
    merges = []
    while len(merges) < merge_count:
        pairs = collections.Counter()
        for word, symbols in words.items():
            for a, b in zip(symbols, symbols[1:]):
                pairs[a, b] += word_count[word]
        if not pairs:
            break
        (a, b), _ = max(pairs.items(), key=lambda item: (item[1], item[0]))
        merges.append((a, b))
        for word, symbols in words.items():
            words[word] = join_pair(symbols, a, b)
    letters = byte_letters()
    tokens = letters + [c + '</w>' for c in letters] + [a + b for a, b in merges] + [START, END]
    return {token: i for i, token in enumerate(tokens)}, merges


def save(vocab, merges, vocab_path, merges_path):
    with open(vocab_path, 'w') as f:
        json.dump(vocab, f, ensure_ascii=False)
    with open(merges_path, 'w') as f:
        f.write('#version: 0.2\n' + '\n'.join(' '.join(m) for m in merges) + '\n')


def load(vocab_path, merges_path):
    with open(vocab_path) as f:
        vocab = json.load(f)
    with open(merges_path) as f:
        merges = [tuple(line.split(' ')) for line in f.read().split('\n')[1:] if line]
    return vocab, merges


class Tokenizer:
    def __init__(self, vocab, merges, context=24):
        self.vocab = vocab
        self.rank = {m: i for i, m in enumerate(merges)}
        self.cache = {}
        self.context = context
        self.start = vocab[START]
        self.end = vocab[END]

    def word(self, word):
        if word not in self.cache:
            parts = split_word(word)
            while len(parts) > 1:
                k = min(range(len(parts) - 1), key=lambda i: self.rank.get((parts[i], parts[i + 1]), 1e9))
                if (parts[k], parts[k + 1]) not in self.rank:
                    break
                parts[k:k + 2] = [parts[k] + parts[k + 1]]
            self.cache[word] = [self.vocab.get(t, 0) for t in parts]
        return self.cache[word]

    def __call__(self, text):
        ids = [k for w in WORD.findall(text.lower()) for k in self.word(w)]
        ids = ([self.start] + ids)[:self.context - 1] + [self.end]
        return ids + [self.end] * (self.context - len(ids))
