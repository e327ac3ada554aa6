// INT8 and INT4 weights against torchao, bit for bit.
#include <fstream>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "megatron/formats/safetensors_file.h"
#include "megatron/ops/quantization/int_groups.h"

#include "tests/precision/golden_folder.h"

namespace megatron {
namespace {

using test::same_bits;

IntMapping mapping_of(const std::string& name) {
  if (name == "SYMMETRIC") return IntMapping::symmetric;
  if (name == "ASYMMETRIC") return IntMapping::asymmetric;
  return IntMapping::symmetric_no_clipping;
}

TEST(IntGroupsGolden, CodesScalesAndValuesAreThoseOfTorchao) {
  const test::GoldenFile part = test::golden_files("weight_only", ".safetensors").front();
  REQUIRE_GOLDEN_FILE(part);
  const auto folder = part.path.parent_path();
  const auto weights = SafetensorsFile::open(folder / "weights.safetensors");
  const auto golden = SafetensorsFile::open(folder / "int_groups.safetensors");
  std::ifstream file(folder / "int_groups.json");
  const nlohmann::json cases = nlohmann::json::parse(file).at("cases");
  int64_t compared = 0;
  for (const auto& [name, entry] : cases.items()) {
    if (entry.at("group") == "all") continue;  // one scale for a tensor: not a group of a row
    const IntGroupOptions options{
        .lo = entry.at("range").at(0),
        .hi = entry.at("range").at(1),
        .group_size = entry.at("group").is_string() ? int64_t{0} : entry.at("group").get<int64_t>(),
        .mapping = mapping_of(entry.at("mapping"))};
    for (const std::string input : {"random", "edge"}) {
      SCOPED_TRACE(name + "/" + input);
      const std::string key = name + "/" + input + "/";
      const IntGroups got = quantize_int_groups(weights.tensor(input), options);
      EXPECT_TRUE(same_bits(got.scales, golden.tensor(key + "scale")));
      EXPECT_TRUE(same_bits(got.zero_points, golden.tensor(key + "zero_point")));
      EXPECT_TRUE(same_bits(got.codes, golden.tensor(key + "q").to(at::kShort)));
      EXPECT_TRUE(same_bits(dequantize_int_groups(got), golden.tensor(key + "values")));
      ++compared;
    }
  }
  EXPECT_GT(compared, 0);
}

}  // namespace
}  // namespace megatron
