"""Writes gemma2_f16 and gemma3_f32 beside this file, as llama.cpp's converter writes models of these families, with the
packages gguf, torch, transformers and safetensors."""
import os

import gguf
import torch
from gguf import MODEL_ARCH, GGMLQuantizationType
from safetensors.torch import save_file
from transformers import Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig

FOLDER = os.path.dirname(os.path.abspath(__file__))
SIZES = dict(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
             query_pre_attn_scalar=16, vocab_size=96, max_position_embeddings=64, sliding_window=5,
             attn_implementation="eager")


def random_model(model_class, config, dtype):
    model = model_class(config).float().eval()
    generator = torch.Generator().manual_seed(14)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator) * (0.2 if "norm" in name else 0.25)
            parameter.copy_(values if parameter.dim() == 1 else values.to(dtype))
    return model


def add_tensors(writer, architecture, model, dtype, expected):
    names = gguf.get_tensor_name_map(architecture, model.config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":  # tied
            continue
        target = names.get_name(name, try_suffixes=(".weight",))
        values = tensor + 1 if name.endswith("norm.weight") else tensor
        is_vector = values.dim() == 1
        writer.add_tensor(target, values.to(torch.float32 if is_vector else dtype).numpy())
        if target.startswith("blk.1.") or not target.startswith("blk."):
            expected["dequantized." + target] = values[:2].clone()


def save_expected(folder, model, expected):
    generator = torch.Generator().manual_seed(41)
    ids = torch.randint(0, SIZES["vocab_size"], (2, 24), generator=generator)
    with torch.no_grad():
        output = model(ids, labels=ids, use_cache=False)
        greedy = ids[:, :8]
        expected["greedy_prompt"] = greedy.clone()
        for _ in range(12):
            greedy = torch.cat([greedy, model(greedy, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)], 1)
    expected |= {"input_ids": ids, "logits": output.logits.contiguous(), "loss": output.loss.reshape(()),
                 "greedy": greedy.contiguous()}
    save_file(expected, os.path.join(folder, "expected.safetensors"))


def write(name, architecture, model, dtype, file_type, add_more):
    folder = os.path.join(FOLDER, name)
    os.makedirs(folder, exist_ok=True)
    config = model.config
    writer = gguf.GGUFWriter(os.path.join(folder, "model.gguf"), gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_sliding_window(config.sliding_window)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_more(writer, config)
    expected = {}
    add_tensors(writer, architecture, model, dtype, expected)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_expected(folder, model, expected)


def gemma2_keys(writer, config):
    writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    writer.add_final_logit_softcapping(config.final_logit_softcapping)


def gemma3_keys(writer, config):
    rope = config.rope_parameters["full_attention"]
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(rope["factor"])


gemma2 = Gemma2Config(**SIZES, num_hidden_layers=4, attn_logit_softcapping=2.0, final_logit_softcapping=5.0)
write("gemma2_f16", MODEL_ARCH.GEMMA2, random_model(Gemma2ForCausalLM, gemma2, torch.float16), torch.float16,
      gguf.LlamaFileType.MOSTLY_F16, gemma2_keys)
ROPE = {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
# The sixth layer has full attention.
gemma3 = Gemma3TextConfig(**SIZES, num_hidden_layers=8, rope_parameters=ROPE)
write("gemma3_f32", MODEL_ARCH.GEMMA3, random_model(Gemma3ForCausalLM, gemma3, torch.float32), torch.float32,
      gguf.LlamaFileType.ALL_F32, gemma3_keys)
