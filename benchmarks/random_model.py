#!/usr/bin/env python3
"""Writes a Hugging Face folder of a Llama model with random weights in bf16, and a tokenizer.

  benchmarks/random_model.py FOLDER [--layers 16 --hidden 2048 --heads 32 --groups 8 --ffn 8192 --vocabulary 128256]

The defaults have the size of Llama 3.2 1B. Needs nothing beyond Python. All weights are between 0.008 and
0.031 in size."""
import argparse
import json
import os
import pathlib
import shutil
import struct

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=pathlib.Path)
for name, value in dict(layers=16, hidden=2048, heads=32, groups=8, ffn=8192, vocabulary=128256).items():
    parser.add_argument("--" + name, type=int, default=value)
a = parser.parse_args()
root = pathlib.Path(__file__).resolve().parent.parent

head = a.hidden // a.heads
shapes = {"model.embed_tokens.weight": [a.vocabulary, a.hidden], "model.norm.weight": [a.hidden]}
for i in range(a.layers):
    layer = f"model.layers.{i}."
    shapes |= {layer + "input_layernorm.weight": [a.hidden],
               layer + "post_attention_layernorm.weight": [a.hidden],
               layer + "self_attn.q_proj.weight": [a.heads * head, a.hidden],
               layer + "self_attn.k_proj.weight": [a.groups * head, a.hidden],
               layer + "self_attn.v_proj.weight": [a.groups * head, a.hidden],
               layer + "self_attn.o_proj.weight": [a.hidden, a.heads * head],
               layer + "mlp.gate_proj.weight": [a.ffn, a.hidden],
               layer + "mlp.up_proj.weight": [a.ffn, a.hidden],
               layer + "mlp.down_proj.weight": [a.hidden, a.ffn]}

# The upper byte of a bf16 number holds the sign and most of the exponent.
block = bytearray(os.urandom(1 << 22))
block[1::2] = bytes(0x3C | (byte & 0x80) for byte in block[1::2])

header, end = {"__metadata__": {"format": "pt"}}, 0
for name, shape in shapes.items():
    size = 2
    for dimension in shape:
        size *= dimension
    header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
    end += size
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)

a.folder.mkdir(parents=True)
with open(a.folder / "model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    left = end
    while left > 0:
        left -= file.write(block[:left])
config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=a.hidden, intermediate_size=a.ffn,
              num_hidden_layers=a.layers, num_attention_heads=a.heads, num_key_value_heads=a.groups,
              vocab_size=a.vocabulary, max_position_embeddings=8192, hidden_act="silu", rms_norm_eps=1e-5,
              rope_theta=500000.0, tie_word_embeddings=True, torch_dtype="bfloat16")
(a.folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
for name in ("tokenizer.json", "tokenizer_config.json"):
    shutil.copy(root / "tests/golden/hf/qwen2" / name, a.folder)
print(f"{a.folder}: {end / 1e9:.2f} GB")
