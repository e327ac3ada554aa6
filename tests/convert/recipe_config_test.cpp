// Recipes against the published config.json of the models that they are named after.
#include <gtest/gtest.h>

#include "megatron/config/options/command_line.h"
#include "megatron/config/options/recipes.h"
#include "megatron/convert/hf_family.h"

#include "tests/convert/hf_folder.h"

namespace megatron {
namespace {

using nlohmann::json;

// {layers, hidden, heads, groups, ffn, vocabulary} with the keys that all of these families have.
json sizes(const char* architecture, const char* type, const std::vector<int64_t>& numbers,
           const json& more) {
  json config = {{"architectures", {architecture}},   {"model_type", type},
                 {"num_hidden_layers", numbers[0]},   {"hidden_size", numbers[1]},
                 {"num_attention_heads", numbers[2]}, {"num_key_value_heads", numbers[3]},
                 {"intermediate_size", numbers[4]},   {"vocab_size", numbers[5]}};
  config.update(more);
  return config;
}

json llama(const std::vector<int64_t>& numbers, json more) {
  more.update(json{{"hidden_act", "silu"}, {"rms_norm_eps", 1e-5}});
  return sizes("LlamaForCausalLM", "llama", numbers, more);
}

json llama32(const std::vector<int64_t>& numbers, int64_t head_dim) {
  return llama(numbers, {{"max_position_embeddings", 131072},
                         {"head_dim", head_dim},
                         {"rope_theta", 500000.0},
                         {"rope_scaling",
                          {{"factor", 32.0},
                           {"high_freq_factor", 4.0},
                           {"low_freq_factor", 1.0},
                           {"original_max_position_embeddings", 8192},
                           {"rope_type", "llama3"}}},
                         {"tie_word_embeddings", true}});
}

json qwen2(const std::vector<int64_t>& numbers, bool tied) {
  return sizes("Qwen2ForCausalLM", "qwen2", numbers,
               {{"hidden_act", "silu"},
                {"max_position_embeddings", 32768},
                {"rms_norm_eps", 1e-6},
                {"rope_theta", 1000000.0},
                {"sliding_window", 32768},
                {"use_sliding_window", false},
                {"tie_word_embeddings", tied}});
}

json qwen3(const std::vector<int64_t>& numbers, bool tied) {
  return sizes("Qwen3ForCausalLM", "qwen3", numbers,
               {{"attention_bias", false},
                {"head_dim", 128},
                {"hidden_act", "silu"},
                {"max_position_embeddings", 40960},
                {"rms_norm_eps", 1e-6},
                {"rope_theta", 1000000.0},
                {"sliding_window", nullptr},
                {"tie_word_embeddings", tied}});
}

json gpt2(int64_t layers, int64_t hidden, int64_t heads) {
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"activation_function", "gelu_new"},
          {"layer_norm_epsilon", 1e-5},
          {"n_embd", hidden},
          {"n_head", heads},
          {"n_layer", layers},
          {"n_positions", 1024},
          {"vocab_size", 50257}};
}

json smollm2(const std::vector<int64_t>& numbers, double theta) {
  return llama(
      numbers,
      {{"max_position_embeddings", 8192}, {"rope_theta", theta}, {"tie_word_embeddings", true}});
}

// Of the multimodal model's text_config, with the values that it leaves to transformers.
json gemma3_4b() {
  return sizes("Gemma3ForCausalLM", "gemma3_text", {34, 2560, 8, 4, 10240, 262208},
               {{"head_dim", 256},
                {"hidden_activation", "gelu_pytorch_tanh"},
                {"max_position_embeddings", 131072},
                {"query_pre_attn_scalar", 256},
                {"rms_norm_eps", 1e-6},
                {"rope_local_base_freq", 10000.0},
                {"rope_scaling", {{"factor", 8.0}, {"rope_type", "linear"}}},
                {"rope_theta", 1000000.0},
                {"sliding_window", 1024},
                {"sliding_window_pattern", 6}});
}

const std::vector<std::pair<std::string, json>>& published() {
  static const std::vector<std::pair<std::string, json>> list = {
      {"gpt2-124m", gpt2(12, 768, 12)},
      {"gpt2-1.5b", gpt2(48, 1600, 25)},
      {"llama2-7b", llama({32, 4096, 32, 32, 11008, 32000},
                          {{"max_position_embeddings", 4096}, {"tie_word_embeddings", false}})},
      {"llama3-8b", llama({32, 4096, 32, 8, 14336, 128256},
                          {{"max_position_embeddings", 8192}, {"rope_theta", 500000.0}})},
      {"llama3-70b", llama({80, 8192, 64, 8, 28672, 128256},
                           {{"max_position_embeddings", 8192}, {"rope_theta", 500000.0}})},
      {"llama3.2-1b", llama32({16, 2048, 32, 8, 8192, 128256}, 64)},
      {"llama3.2-3b", llama32({28, 3072, 24, 8, 8192, 128256}, 128)},
      {"mistral-7b", sizes("MistralForCausalLM", "mistral", {32, 4096, 32, 8, 14336, 32000},
                           {{"hidden_act", "silu"},
                            {"max_position_embeddings", 32768},
                            {"rms_norm_eps", 1e-5},
                            {"rope_theta", 10000.0},
                            {"sliding_window", 4096}})},
      {"qwen2.5-0.5b", qwen2({24, 896, 14, 2, 4864, 151936}, true)},
      {"qwen2.5-7b", qwen2({28, 3584, 28, 4, 18944, 152064}, false)},
      {"qwen3-0.6b", qwen3({28, 1024, 16, 8, 3072, 151936}, true)},
      {"qwen3-8b", qwen3({36, 4096, 32, 8, 12288, 151936}, false)},
      {"qwen3-32b", qwen3({64, 5120, 64, 8, 25600, 151936}, false)},
      {"gemma3-4b", gemma3_4b()},
      {"smollm2-135m", smollm2({30, 576, 9, 3, 1536, 49152}, 100000.0)},
      {"smollm2-1.7b", smollm2({24, 2048, 32, 32, 8192, 49152}, 130000.0)}};
  return list;
}

TEST(RecipeConfig, EveryRecipeIsThePublishedModel) {
  ASSERT_EQ(published().size(), recipes().size());
  for (const auto& [name, config] : published()) {
    SCOPED_TRACE(name);
    const GPTModelConfig ours = parse_options(Command::plan, {"--recipe", name}).options.model;
    const HfFamily& family = find_hf_family(config, name);
    EXPECT_EQ(model_differences(ours, read_hf_config(family, config, name)), "");
    // A model that is trained by the recipe is written as one of that family.
    EXPECT_EQ(
        model_differences(ours, read_hf_config(family, write_hf_config(family, ours), "written")),
        "");
  }
}

}  // namespace
}  // namespace megatron
