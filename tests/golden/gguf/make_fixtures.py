"""Writes blocks.gguf, blocks.safetensors and metadata.gguf beside this file, with the package gguf."""
import json
import os
import struct

import gguf
import numpy as np
from gguf import GGMLQuantizationType, quants

FOLDER = os.path.dirname(os.path.abspath(__file__))
# Quantized types and the offsets of the half-precision scales in a block.
SCALES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2],
          "Q6_K": [208]}
ROWS, COLUMNS = 3, 512


def half_bytes(values):
    return np.asarray(values, np.float16).view(np.uint8)


def random_blocks(rng, name):
    values, size = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    count = ROWS * COLUMNS // values
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for place in SCALES[name]:
        blocks[:, place:place + 2] = half_bytes(rng.uniform(-3, 3, count)).reshape(count, 2)
    first = SCALES[name][0]
    blocks[0, first:first + 2] = half_bytes([6e-8])  # a subnormal scale
    blocks[1, first:first + 2] = half_bytes([-0.0])
    return blocks.reshape(ROWS, -1)


def save_safetensors(path, tensors):
    header, data = {}, b""
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        dtype = {"float32": "F32", "uint8": "U8"}[array.dtype.name]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_blocks():
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(os.path.join(FOLDER, "blocks.gguf"), "llama")
    expected = {}
    for name in SCALES:
        blocks = random_blocks(rng, name)
        writer.add_tensor(name, blocks, raw_dtype=GGMLQuantizationType[name])
        expected[name] = quants.dequantize(blocks, GGMLQuantizationType[name])
    x = np.concatenate([rng.normal(0, 1, 64), [0.5, -0.5, 1.5, -2.5, 127, -127, 63.5, 0], np.zeros(24),
                        np.full(32, 1e-30), np.full(32, 1e-42)]).astype(np.float32).reshape(5, 32)
    for name, array in (("F32", x), ("F16", x.astype(np.float16))):
        writer.add_tensor(name, array)
        expected[name] = array.astype(np.float32)
    bf16 = quants.quantize(x, GGMLQuantizationType.BF16)
    writer.add_tensor("BF16", bf16, raw_dtype=GGMLQuantizationType.BF16)
    expected["BF16"] = quants.dequantize(bf16, GGMLQuantizationType.BF16)
    finish(writer)
    expected["q8_0_input"] = x[:4]
    expected["q8_0_bytes"] = quants.quantize(x[:4], GGMLQuantizationType.Q8_0)
    save_safetensors(os.path.join(FOLDER, "blocks.safetensors"), expected)


def write_metadata():
    writer = gguf.GGUFWriter(os.path.join(FOLDER, "metadata.gguf"), "llama")
    writer.add_uint8("u8", 200)
    writer.add_int8("i8", -100)
    writer.add_uint16("u16", 60000)
    writer.add_int16("i16", -30000)
    writer.add_uint32("u32", 4000000000)
    writer.add_int32("i32", -2000000000)
    writer.add_float32("f32", 0.1)
    writer.add_bool("yes", True)
    writer.add_bool("no", False)
    writer.add_string("text", "caf\u00e9")
    writer.add_uint64("u64", 2**64 - 1)
    writer.add_int64("i64", -2**63)
    writer.add_float64("f64", 1e300)
    writer.add_array("ints", [1, -2, 3])
    writer.add_array("floats", [0.5, -1.5])
    writer.add_array("flags", [True, False])
    writer.add_array("texts", ["a", "", "bc"])
    writer.add_array("nested", [[1, 2], [3]])
    writer.add_tensor("matrix", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.add_tensor("vector", np.arange(4, dtype=np.float16))
    finish(writer)


write_blocks()
write_metadata()
