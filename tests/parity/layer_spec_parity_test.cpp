// Cases of megatron-core through the layers of each spec.
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "megatron/config/validate/validate.h"
#include "megatron/formats/safetensors_writer.h"
#include "megatron/parity/parity_run.h"

#include "tests/parallel/thread_world.h"
#include "tests/temporary_folder.h"

namespace megatron {
namespace {

struct SpecLayout {
  const char* name;
  int64_t tp, pp;
  bool sequence_parallel;
};

constexpr SpecLayout kSpecLayouts[] = {
    {"one_rank", 1, 1, false}, {"tp2_sp", 2, 1, true}, {"pp2", 1, 2, false}};

constexpr const char* kSpecCases[] = {"gpt2",
                                      "gpt2_bf16",
                                      "gpt2_doc_mask",
                                      "gpt2_recompute_selective",
                                      "llama",
                                      "llama_bf16",
                                      "llama_qk_layernorm",
                                      "llama_recompute_selective_mlp",
                                      "mla",
                                      "mla_no_q_lora",
                                      "mtp1",
                                      "mtp2"};

class LayerSpecParity : public testing::TestWithParam<const char*> {};

TEST_P(LayerSpecParity, HoldsThroughTheSpec) {
  for (const char* name : kSpecCases) {
    const ParityCase parity_case =
        ParityCase::open(std::string(TEST_DATA_DIR "/megatron_core/") + name + ".json");
    for (const SpecLayout& layout : kSpecLayouts) {
      Options options;
      options.model.transformer.tensor_model_parallel_size = layout.tp;
      options.model.transformer.pipeline_model_parallel_size = layout.pp;
      options.model.transformer.sequence_parallel = layout.sequence_parallel;
      options.model.transformer_layer_spec = GetParam();
      parity_case.configure(options, /*keep_params_dtype=*/false);
      const int world = static_cast<int>(layout.tp * layout.pp);
      validate(options, world, Command::parity);
      run_thread_world(world, [&](RankContext& rank) {
        const Comparison comparison = run_parity(parity_case, options, rank);
        if (rank.rank != 0) return;
        EXPECT_TRUE(comparison.holds(1.0)) << name << " in " << layout.name << '\n'
                                           << comparison.table(1.0);
      });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Specs, LayerSpecParity,
                         testing::Values("local_layer_spec", "transformer_engine_layer_spec",
                                         "transformer_engine_full_layer_spec",
                                         "modelopt_transformer_layer_spec"),
                         [](const auto& info) { return std::string(info.param); });

// A case of the peer's fused layers names norms after the linear layers.
TEST(ParityNames, EitherSpellingOfNormsIsAccepted) {
  const std::string folder = std::string(TEST_DATA_DIR "/megatron_core/");
  const ParityCase local = ParityCase::open(folder + "gpt2.json");
  EXPECT_EQ(local.name_of("decoder.layers.1.mlp.linear_fc1.layer_norm_weight"),
            "decoder.layers.1.pre_mlp_layernorm.weight");
  EXPECT_EQ(local.name_of("decoder.layers.1.mlp.linear_fc1.weight"),
            "decoder.layers.1.mlp.linear_fc1.weight");
  // The same case with the names of fused layers.
  const auto fused_name = [](std::string name) {
    for (const auto& [from, to] :
         {std::pair{".input_layernorm.", ".self_attention.linear_qkv.layer_norm_"},
          std::pair{".pre_mlp_layernorm.", ".mlp.linear_fc1.layer_norm_"}}) {
      if (const size_t at = name.find(from); at != std::string::npos)
        name.replace(at, std::string_view(from).size(), to);
    }
    return name;
  };
  const TemporaryFolder copies;
  const std::filesystem::path copy = copies / "gpt2.json";
  nlohmann::json json = local.json();
  nlohmann::json statistics = nlohmann::json::object();
  for (const auto& [name, numbers] : json["weight_after3"].items())
    statistics[fused_name(name)] = numbers;
  json["weight_after3"] = statistics;
  std::ofstream(copy) << json;
  std::vector<NamedTensor> tensors;
  for (const std::string& name : local.tensor_names())
    tensors.push_back({fused_name(name), local.tensor(name)});
  write_safetensors(std::filesystem::path(copy).replace_extension(".safetensors"), tensors);
  const ParityCase fused = ParityCase::open(copy);
  EXPECT_EQ(fused.name_of("decoder.layers.1.mlp.linear_fc1.layer_norm_weight"),
            "decoder.layers.1.mlp.linear_fc1.layer_norm_weight");
  Options options;
  fused.configure(options, /*keep_params_dtype=*/false);
  validate(options, 1, Command::parity);
  run_thread_world(1, [&](RankContext& rank) {
    const Comparison comparison = run_parity(fused, options, rank);
    EXPECT_TRUE(comparison.holds(1.0)) << comparison.table(1.0);
    EXPECT_TRUE(comparison.contains(ParityKind::gradient,
                                    "decoder.layers.0.self_attention.linear_qkv.layer_norm_bias"));
  });
}

}  // namespace
}  // namespace megatron
