"""What Hugging Face's `tokenizers` makes of texts, to compare with.

    tokens.py encode FILE       reads texts as JSON, one a line, and prints their ids by that tokenizer.json
    tokens.py make KIND FILE    trains a tokenizer of this kind on such texts and writes its tokenizer.json
"""

import json
import sys

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer

# Llama 3's, and with small changes that of others.
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def gpt_2(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=2000, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def roberta(texts):
    tokenizer = gpt_2(texts)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True), "<s>", "</s>"])
    tokenizer.add_tokens([AddedToken("the king", normalized=False), "Queen"])
    ends = [(token, tokenizer.token_to_id(token)) for token in ("</s>", "<s>")]
    tokenizer.post_processor = processors.RobertaProcessing(*ends)
    return tokenizer


def llama_3(texts):
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(LLAMA_3), behavior="isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=3000, special_tokens=["<|begin|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    template = processors.TemplateProcessing("<|begin|> $A", special_tokens=[("<|begin|>", 0)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), template])
    return tokenizer


def llama_2(texts):
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    prepend, replace = normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([prepend, replace])
    trainer = BpeTrainer(vocab_size=1500, special_tokens=specials, limit_alphabet=40)
    # Without a cut, words are learned from what stands between spaces.
    words = (" " + word for text in texts for word in text.split())
    tokenizer.train_from_iterator(words, trainer)
    # As in the original, bytes are tokens of the vocabulary and nothing that a text can spell.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = state["added_tokens"][:3]
    return Tokenizer.from_str(json.dumps(state))


def composed(texts):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), digits])
    trainer = BpeTrainer(vocab_size=1000, special_tokens=["<unk>"], limit_alphabet=60)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


KINDS = {"gpt_2": gpt_2, "roberta": roberta, "llama_3": llama_3, "llama_2": llama_2, "composed": composed}


def main():
    texts = [json.loads(line) for line in sys.stdin]
    match sys.argv[1:]:
        case ["encode", file]:
            tokenizer = Tokenizer.from_file(file)
            for text in texts:
                print(json.dumps(tokenizer.encode(text).ids))
        case ["make", kind, file]:
            KINDS[kind](texts).save(file)
        case _:
            sys.exit(__doc__)


main()
