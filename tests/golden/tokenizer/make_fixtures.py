"""Makes the fixtures of this folder. Development only: nothing in the build or the tests runs it.

    python3 -m venv venv && venv/bin/pip install tokenizers==0.23.3 sentencepiece==0.2.3 tiktoken==0.14.0
    venv/bin/python make_fixtures.py

Trains tiny tokenizers, runs them on texts that follow a rule (README.md), and stores digests of the results.
"""
import base64
import hashlib
import json
import pathlib
import struct
import tempfile

import sentencepiece
import tiktoken
from tokenizers import (AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parent / "data"
BOOK = (HERE.parents[2] / "examples/data/kjv.txt").read_text()[:300_000]
TEXTS_PER_KIND = 2000
MASK = (1 << 64) - 1

# Text kinds: lists of atoms, each a text or a range of code points.
KINDS = {
    "scripts": [
        "the", "The", " and", "Straße", "naïve", "ÉCOLE", "İstanbul", "ΣΊΣΥΦΟΣ", "ёлка", "Год", "שלום", "مرحبا", "لا إله",
        "नमस्ते", "ไทย", "한국어", "日本語", "カタカナ", "中文字符", "ﬁne", "①②③", "½", "²", "Ⅷ", "ǅ", "e\u0301", "o\u0323\u0302",
        "\u212b", "\u1e9b\u0323", " ", "  ", ".", ",", "1", "42", "٣٤", "-", "'", "¿", "«", "»", "…", "—", "ｆｕｌｌ", "ﾊﾟ",
        [0xA1, 0xFF], [0x100, 0x17F], [0x391, 0x3A1], [0x3B1, 0x3C9], [0x410, 0x44F], [0x5D0, 0x5EA], [0x621, 0x63A],
        [0x641, 0x64A], [0x64B, 0x652], [0x904, 0x939], [0x93E, 0x94D], [0xE01, 0xE3A], [0x10D0, 0x10F0], [0x1100, 0x1112],
        [0x1161, 0x1175], [0x11A8, 0x11C2], [0x1E00, 0x1EFF], [0x1F70, 0x1F7D], [0x2010, 0x2027], [0x2070, 0x2071],
        [0x2160, 0x217F], [0x2460, 0x24FF], [0x3041, 0x3096], [0x30A1, 0x30FA], [0x4E00, 0x9FA5], [0xAC00, 0xD7A3],
        [0xF900, 0xFA2D], [0xFB00, 0xFB06], [0xFF01, 0xFF5E], [0xFF66, 0xFF9F], [0x10330, 0x1034A], [0x1D400, 0x1D454],
        [0x20000, 0x2A6D6], [0x300, 0x36F], [0x61, 0x7A], [0x41, 0x5A]],
    "emoji": [
        "😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇫🇷", "❤️", "1️⃣", "☺", "✔", "👨‍💻", " ", "ok", "Ha", "!", "\u200d", "\ufe0f", "🏿",
        [0x1F600, 0x1F64F], [0x2600, 0x26C3], [0x1F300, 0x1F320], [0x1F3FB, 0x1F3FF], [0x1F1E6, 0x1F1FF]],
    "controls": [
        "\0", "\t", "\n", "\r", "\r\n", "a", "b c", " ", "\u0085", "\u00ad", "\u200b", "\u200e", "\u2028", "\u2029", "\ufeff",
        "\ufffd", "\ufffe", "\U0010ffff", "<0x0A>", "<0xE2>", "\u2581", "##",
        [0x0, 0x1F], [0x7F, 0x9F], [0x200B, 0x200F], [0x202A, 0x202E], [0x2060, 0x2064], [0xE000, 0xE010]],
    "code": [
        "def ", "return", "(", ")", "):", "\n    ", "\n\n", "{", "}", ";", " = ", "==", "!=", "->", "::", "std", "x", "y_1",
        "0x1F", "3.14", "1e-5", "//", "/*", "*/", "#", "\"", "'s", "'ll", "\\n", "\t", "&&", "||", "[", "]", "<", ">", "@",
        "$", "%", "^", "~", "`", "if", "else", "for", "i++", "CamelCase", "snake_case", "www.a.org/b?c=d", " ", ",", "-", "_"],
    "spaces": [
        " ", "  ", "   ", "\t", "\n", "\n\n", " \n", "\r\n", "\u00a0", "\u3000", "\u2003", "\u202f", "\u1680", "\u180e",
        "\u2581", "\u2581\u2581", "a", "the", "The", "beginning", "God", ".", "1", "é", "don't", "we'LL", "\u0301",
        "word", "中", [0x2000, 0x200A], [0x09, 0x0D]],
    "special": [
        "<s>", "</s>", "<unk>", "<mask>", "[MASK]", "[CLS]", "[SEP]", "[UNK]", "[PAD]", "<|endoftext|>", "<|end|>", "<x>",
        "<x><y>", "DAY", "day", "Day", "é", "e\u0301", "word", "words", " ", "  ", "\n", "\t", "a", "of", "In", "x", "1",
        ".", "<", ">", "<pad>", "<SPECIAL_7>", "▁", "</w>", "##s", "中", "_", "\u3000"],
}
# For the normalization forms only: characters that older versions of Unicode do not have.
NEWER = ["a", "o\u0301", "\u0323", "\U00011935\u0301", " ", "\u0928", "\u093c", [0x7FD, 0x7FD], [0x898, 0x89F], [0x8CA, 0x8D3],
         [0x9FE, 0x9FE], [0xC3C, 0xC3C], [0xD3B, 0xD3C], [0x1ABF, 0x1ACE], [0x1DF6, 0x1DFA], [0x32FF, 0x32FF],
         [0xA7F2, 0xA7F4], [0x10781, 0x107BA], [0x11930, 0x1193E], [0x1E030, 0x1E06D], [0x1FBF0, 0x1FBF9], [0x300, 0x345]]


def texts_of(kind, atoms):
    """The rule of README.md."""
    state = int.from_bytes(hashlib.sha256(kind.encode()).digest()[:8], "little")
    def draw():
        nonlocal state
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)
    texts = []
    for _ in range(TEXTS_PER_KIND):
        text = ""
        for _ in range(1 + draw() % 12):
            atom = atoms[draw() % len(atoms)]
            text += atom if isinstance(atom, str) else chr(atom[0] + draw() % (atom[1] - atom[0] + 1))
        texts.append(text)
    return texts


TEXTS = {kind: texts_of(kind, atoms) for kind, atoms in KINDS.items()}
NEWER_TEXTS = texts_of("newer", NEWER)


def digest_of_ids(lists):
    """SHA-256 of counts and ids as unsigned 32-bit little-endian numbers."""
    sha = hashlib.sha256()
    for ids in lists:
        sha.update(struct.pack(f"<{len(ids) + 1}I", len(ids), *ids))
    return sha.hexdigest()


def digest_of_texts(texts):
    """SHA-256 of the texts in UTF-8, each after its length as a number of 32 bits."""
    sha = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        sha.update(struct.pack("<I", len(data)) + data)
    return sha.hexdigest()


def run(encode, decode, kinds=None):
    result = {}
    for kind in kinds or KINDS:
        ids = [encode(text) for text in TEXTS[kind]]
        result[kind] = {"ids": digest_of_ids(ids), "tokens": sum(map(len, ids)),
                        "text": digest_of_texts([decode(i) for i in ids])}
    return result


def run_tokenizer(tokenizer):
    return run(lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
               lambda ids: tokenizer.decode(ids, skip_special_tokens=False))


def save_json(name, value):
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    (HERE / name).write_text(text + "\n")


CORPUS = [line for line in BOOK.splitlines() if line] + TEXTS["scripts"][:600] + TEXTS["code"][:600]
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]


def bpe(size, special, pre_tokenizer, normalizer=None, **options):
    model = dict(unk_token=options.get("unk_token"), fuse_unk=options.get("fuse_unk", False),
                 byte_fallback=options.get("byte_fallback", False))
    train = {}
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if key in options:
            model[key] = train[key] = options[key]
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, limit_alphabet=120, show_progress=False, **train))
    return tokenizer


def small_charsmap(folder):
    """A table of replacements that fits in a few kilobytes, and a unigram model with it."""
    rules = {"\uff41": "a", "\uff42": "b", "\ufb01": "fi", "\u2460": "1", "\u2461": "2", "e\u0301": "\u00e9", "\u212b": "\u00c5",
             "\u00bd": "1/2", "\u3000": " ", "\u00a0": " ", "\t": " ", "\u1100\u1161": "\uac00", "\u2026": "...", "\u00ad": "",
             "\u200b": "", "A\u030a": "\u00c5", "o\u0302": "\u00f4", "o\u0323\u0302": "\u1ed9"}
    tsv = folder / "rules.tsv"
    tsv.write_text("".join("%s\t%s\n" % (" ".join("%X" % ord(c) for c in a), " ".join("%X" % ord(c) for c in b))
                           for a, b in rules.items()))
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(t.replace("\0", "").replace("\n", " ").replace("\r", " ") for t in CORPUS))
    common = dict(input=str(corpus), minloglevel=2, num_threads=1, input_sentence_size=0, hard_vocab_limit=False)
    sentencepiece.SentencePieceTrainer.train(
        model_prefix=str(folder / "unigram"), vocab_size=400, model_type="unigram", byte_fallback=True,
        normalization_rule_tsv=str(tsv), user_defined_symbols=["<x>", "<mask>"], character_coverage=0.98, **common)
    sentencepiece.SentencePieceTrainer.train(
        model_prefix=str(folder / "bpe"), vocab_size=500, model_type="bpe", normalization_rule_name="identity",
        remove_extra_whitespaces=False, add_dummy_prefix=False, split_digits=True, character_coverage=0.98,
        control_symbols=["<pad>"], **common)
    proto = (folder / "unigram.model").read_bytes()
    return proto, (folder / "bpe.model").read_bytes()


def charsmap_of(proto):
    """The field precompiled_charsmap of a model's normalizer_spec, read from the protocol buffer."""
    def fields(data):
        i = 0
        def varint():
            nonlocal i
            value = shift = 0
            while True:
                byte = data[i]
                i += 1
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return value
        while i < len(data):
            key = varint()
            if key & 7 == 2:
                size = varint()
                yield key >> 3, data[i:i + size]
                i += size
            elif key & 7 == 0:
                yield key >> 3, varint()
            else:
                yield key >> 3, data[i:i + 4]
                i += 4
    spec = dict(fields(proto))[3]
    return dict(fields(spec))[2]


def pieces_of(proto):
    processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
    return [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]


def main():
    expected = {"library": "tokenizers 0.23.3, sentencepiece 0.2.3, tiktoken 0.14.0"}
    with tempfile.TemporaryDirectory() as folder:
        unigram_proto, bpe_proto = small_charsmap(pathlib.Path(folder))
    (HERE / "unigram.model").write_bytes(unigram_proto)
    (HERE / "bpe.model").write_bytes(bpe_proto)
    charsmap = charsmap_of(unigram_proto)
    precompiled = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}

    # Normalizers and pre-tokenizers by themselves.
    n, p = normalizers, pre_tokenizers
    def config(component):
        return json.loads(component.__getstate__())
    all_normalizers = [
        n.NFC(), n.NFD(), n.NFKC(), n.NFKD(), n.Lowercase(), n.StripAccents(), n.Nmt(), n.ByteLevel(), n.Strip(),
        n.Strip(left=True, right=False), n.Strip(left=False, right=True), n.Prepend("▁"), n.Replace(" ", "▁"),
        n.Replace("", "-"), n.BertNormalizer(), n.BertNormalizer(lowercase=False, strip_accents=True),
        n.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=False),
        n.Sequence([n.NFKD(), n.StripAccents(), n.Lowercase(), n.Strip(), n.Prepend("▁"), n.Replace(" ", "▁")]),
    ]
    from tokenizers import Regex
    all_normalizers += [n.Replace(Regex(r"\s+"), " "), n.Replace(Regex(r"x*"), "*"), n.Replace(Regex(r" {2,}"), "▁")]
    cases = []
    for component in all_normalizers:
        kinds = {kind: digest_of_texts([component.normalize_str(t) for t in TEXTS[kind]]) for kind in KINDS}
        if isinstance(component, (n.NFC, n.NFD, n.NFKC, n.NFKD)):
            kinds["newer"] = digest_of_texts([component.normalize_str(t) for t in NEWER_TEXTS])
        cases.append({"component": config(component), "kinds": kinds})
    pre = n.Precompiled(charsmap)
    cases.append({"component": precompiled,
                  "kinds": {kind: digest_of_texts([pre.normalize_str(t) for t in TEXTS[kind]]) for kind in KINDS}})
    expected["normalizers"] = cases

    behaviors = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
    words = r"'s|'t| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    all_pre = [p.Split(Regex(r"\s"), b, invert) for b in behaviors for invert in (False, True)]
    all_pre += [p.Split(Regex(r"\d+|[.,;]"), b) for b in behaviors]
    all_pre += [p.Split("a", b) for b in behaviors] + [p.Split(Regex("x*"), b) for b in behaviors]
    all_pre += [p.Punctuation(b) for b in behaviors]
    all_pre += [
        p.Split(Regex(words), "isolated"), p.Split(Regex(r"\w+|[^\w\s]+"), "removed", True), p.Split(" ", "merged_with_previous"),
        p.Metaspace(), p.Metaspace(prepend_scheme="first"), p.Metaspace(prepend_scheme="never"),
        p.Metaspace(prepend_scheme="first", split=False), p.Metaspace(replacement="_"), p.Digits(), p.Digits(True), p.Whitespace(),
        p.WhitespaceSplit(), p.BertPreTokenizer(), p.CharDelimiterSplit("a"), p.FixedLength(3), p.ByteLevel(),
        p.ByteLevel(add_prefix_space=False, use_regex=False), p.ByteLevel(add_prefix_space=False),
        p.Sequence([p.WhitespaceSplit(), p.Metaspace()]), p.Sequence([p.Digits(True), p.Punctuation(), p.ByteLevel(False)]),
        p.Sequence([p.Split("the", "isolated"), p.Metaspace(prepend_scheme="first")]),
        p.Sequence([p.Metaspace(prepend_scheme="first", split=False), p.Split("▁", "isolated"), p.Metaspace(prepend_scheme="first")])]
    cases = []
    for component in all_pre:
        kinds = {kind: digest_of_texts(["\x1f".join(piece for piece, _ in component.pre_tokenize_str(t)) for t in TEXTS[kind]])
                 for kind in KINDS}
        cases.append({"component": config(component), "kinds": kinds})
    expected["pre_tokenizers"] = cases

    # Whole tokenizers. `changes` replaces members of a stored file.
    files = {}
    specials = ["<unk>", "<s>", "</s>"]
    llama = bpe(760, specials + BYTE_TOKENS, p.Metaspace(), unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    clip = bpe(500, ["<|endoftext|>"], p.Sequence([p.Split(Regex(r"\s+"), "removed"), p.ByteLevel(False)]), n.Lowercase(),
               unk_token="<|endoftext|>", end_of_word_suffix="</w>")
    prefixed = bpe(500, ["[UNK]"], p.BertPreTokenizer(), n.Lowercase(), unk_token="[UNK]", continuing_subword_prefix="##")
    word_piece = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    word_piece.normalizer = n.BertNormalizer()
    word_piece.pre_tokenizer = p.BertPreTokenizer()
    word_piece.train_from_iterator(CORPUS, trainers.WordPieceTrainer(
        vocab_size=500, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], limit_alphabet=120, show_progress=False))
    word_piece.decoder = decoders.WordPiece()
    unigram = Tokenizer(models.Unigram(pieces_of(unigram_proto), unk_id=0, byte_fallback=True))
    word_level = Tokenizer(models.WordLevel(unk_token="<unk>"))
    word_level.pre_tokenizer = p.Whitespace()
    word_level.train_from_iterator(CORPUS, trainers.WordLevelTrainer(
        vocab_size=250, special_tokens=["<unk>", "</s>"], show_progress=False))

    llama.normalizer = n.Sequence([n.Prepend("▁"), n.Replace(" ", "▁")])
    llama.pre_tokenizer = None
    llama.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    llama.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True), AddedToken("<unk>", special=True)])
    llama.add_tokens([AddedToken("<x>", normalized=True), AddedToken("<x><y>", normalized=True),
                      AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False),
                      AddedToken("DAY", single_word=True, normalized=False), AddedToken("  ", normalized=False)])
    clip.decoder = decoders.BPEDecoder("</w>")
    clip.add_tokens([AddedToken("Day", normalized=True), AddedToken("<x>", normalized=True, rstrip=True)])
    prefixed.decoder = decoders.WordPiece(cleanup=False)
    prefixed.add_tokens([AddedToken("é", normalized=True, single_word=True)])
    unigram.normalizer = n.Sequence([n.Precompiled(charsmap), n.Replace(Regex(" {2,}"), " ")])
    unigram.pre_tokenizer = p.Metaspace()
    unigram.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    unigram.add_special_tokens(["</s>"])
    word_piece.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", word_piece.token_to_id("[CLS]")), ("[SEP]", word_piece.token_to_id("[SEP]"))])

    cases = []
    def case(file, **changes):
        text = files[file].to_str()
        content = json.loads(text)
        content.update({k: v for k, v in changes.items() if k != "model"})
        content["model"].update(changes.get("model", {}))
        tokenizer = Tokenizer.from_str(json.dumps(content))
        special = tokenizer.encode("In the word", add_special_tokens=True).ids
        cases.append({"file": file, "changes": changes, "with_special_tokens": special, "kinds": run_tokenizer(tokenizer)})

    files.update({"llama.json": llama, "clip.json": clip, "prefixed.json": prefixed, "word_piece.json": word_piece,
                  "unigram.json": unigram, "word_level.json": word_level})
    for name, tokenizer in files.items():
        save_json(name, json.loads(tokenizer.to_str()))
        case(name)
    metaspace = config(p.Metaspace(prepend_scheme="first", split=False))
    case("llama.json", normalizer=None, pre_tokenizer=metaspace)
    case("llama.json", normalizer=None, pre_tokenizer=config(p.Metaspace(prepend_scheme="first")), model={"ignore_merges": True})
    case("llama.json", normalizer=config(n.Replace(" ", "▁")), pre_tokenizer=config(p.Split(" ", "merged_with_previous")),
         model={"byte_fallback": False, "fuse_unk": False})
    case("llama.json", model={"byte_fallback": False}, decoder=None)
    case("llama.json", model={"unk_token": None, "byte_fallback": False}, decoder=config(decoders.Metaspace()))
    case("llama.json", post_processor={"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
         "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
         "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}]})
    case("word_piece.json", post_processor={"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
         model={"max_input_chars_per_word": 4}, decoder=config(decoders.WordPiece(cleanup=False)))
    case("word_piece.json", post_processor={"type": "RobertaProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2],
                                            "trim_offsets": True, "add_prefix_space": False},
         normalizer=config(n.Sequence([n.NFD(), n.Lowercase(), n.StripAccents()])), pre_tokenizer=config(p.Whitespace()))
    case("unigram.json", normalizer=config(n.NFKC()), pre_tokenizer=metaspace, model={"byte_fallback": False},
         decoder=config(decoders.Metaspace(prepend_scheme="never")))
    case("unigram.json", normalizer=None, pre_tokenizer=config(p.Sequence([p.WhitespaceSplit(), p.Metaspace()])))
    case("prefixed.json", model={"fuse_unk": True}, pre_tokenizer=config(p.Sequence([p.Whitespace(), p.Digits(True)])))
    case("clip.json", normalizer=config(n.Sequence([n.NFC(), n.Replace(Regex(r"\s+"), " "), n.Lowercase()])),
         decoder=config(decoders.Sequence([decoders.BPEDecoder("</w>"), decoders.ByteLevel()])))
    # Byte-level BPE of Llama 3's, Qwen's and others' shape, with the vocabulary of data/hf_tiny.
    files["../data/hf_tiny/tokenizer.json"] = Tokenizer.from_file(str(DATA / "hf_tiny/tokenizer.json"))
    tiny = "../data/hf_tiny/tokenizer.json"
    qwen = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    split_bytes = p.Sequence([p.Split(Regex(qwen), "isolated"), p.ByteLevel(add_prefix_space=False, use_regex=False)])
    case(tiny)
    case(tiny, normalizer=config(n.NFC()), pre_tokenizer=config(split_bytes))
    case(tiny, normalizer=config(n.Sequence([n.NFKC(), n.Lowercase()])), pre_tokenizer=config(split_bytes), model={"ignore_merges": True})
    case(tiny, normalizer=config(n.ByteLevel()), pre_tokenizer=config(p.Split(Regex("Ġ"), "merged_with_next")))
    case(tiny, pre_tokenizer=config(p.Sequence([p.Punctuation("contiguous"), p.ByteLevel(add_prefix_space=True), p.Digits(True)])))
    expected["tokenizers"] = cases

    # The large vocabularies of data/.
    gpt2 = Tokenizer(models.BPE.from_file(str(DATA / "gpt2/vocab.json"), str(DATA / "gpt2/merges.txt")))
    gpt2.pre_tokenizer = p.ByteLevel(add_prefix_space=False)
    gpt2.decoder = decoders.ByteLevel()
    expected["gpt2"] = run_tokenizer(gpt2)
    expected["smollm2"] = run_tokenizer(Tokenizer.from_file(str(DATA / "smollm2/tokenizer.json")))

    expected["sentencepiece"] = {}
    for name in ("spm.model", "unigram.model", "bpe.model"):
        processor = sentencepiece.SentencePieceProcessor(model_file=str(HERE / name))
        expected["sentencepiece"][name] = run(processor.encode, processor.decode)

    # tiktoken over GPT-2's tokens, as Megatron sets it up.
    byte_of = {}
    code = 256
    for byte in range(256):
        plain = 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or byte >= 0xAE
        byte_of[chr(byte if plain else code)] = byte
        code += not plain
    vocab = json.loads((DATA / "gpt2/vocab.json").read_text())
    special = ["<unk>", "<s>", "</s>", "<mask>", "<pad>", "<cls>", "<sep>"] + [f"<SPECIAL_{i}>" for i in range(7, 20)]
    tokens = {bytes(byte_of[c] for c in token): rank for token, rank in vocab.items() if token != "<|endoftext|>"}
    patterns = {
        "v1": r"[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        "v2": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
              r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
              r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"}
    expected["tiktoken"] = {}
    for name, pattern in patterns.items():
        encoding = tiktoken.Encoding(name=name, pat_str=pattern, mergeable_ranks={t: r + len(special) for t, r in tokens.items()},
                                     special_tokens={t: i for i, t in enumerate(special)})
        expected["tiktoken"][name] = run(lambda text: encoding.encode(text, allowed_special="all"), encoding.decode)

    save_json("kinds.json", dict(KINDS, newer=NEWER))
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
