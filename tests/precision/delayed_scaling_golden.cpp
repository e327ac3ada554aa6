#include "tests/precision/delayed_scaling_golden.h"

#include <cmath>
#include <regex>
#include <set>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/ops/quantization/quantize.h"
#include "megatron/precision/delayed_scaling.h"

#include "tests/precision/golden_folder.h"

namespace megatron::test {
namespace {

bool within_one_ulp(float a, float b) {
  return a == b || std::nextafter(a, b) == b;
}

// Replays a sequence of amax. The reference keeps the scale while a NaN is in the history; the kernels
// skip it, and so do we: there the expected scale follows from the other amax.
void replay(const SafetensorsFile& file, const std::string& group,
            const DelayedScalingOptions& options, const at::Tensor& amax) {
  const at::Tensor scales = file.tensor(group + "/scale");
  const at::Tensor histories = file.tensor(group + "/history");
  ASSERT_EQ(histories.size(1), options.amax_history_len) << group;
  DelayedScaling scaling(options);
  for (int64_t step = 0; step < scales.numel(); ++step) {
    const float before = scaling.scale();
    scaling.update(amax[step].item<float>());
    const at::Tensor history = at::tensor(at::ArrayRef<float>(scaling.amax_history()));
    EXPECT_TRUE(same_bits(history, histories[step])) << group << " after step " << step;

    const int64_t window =
        options.amax_compute_algo == AmaxComputeAlgo::max ? options.amax_history_len : 1;
    const int64_t first = std::max<int64_t>(0, step + 1 - window);
    float largest = 0;
    bool has_nan = false;
    for (int64_t i = first; i <= step; ++i) {
      const float value = amax[i].item<float>();
      has_nan |= std::isnan(value);
      if (value > largest) largest = value;
    }
    const bool keeps = largest == 0 || std::isinf(largest);
    float expected = scales[step].item<float>();
    if (keeps) {
      expected = before;
    } else if (has_nan) {
      expected = std::min(largest_value(options.format) / std::exp2f(options.margin) / largest,
                          kLargestFloat);
    }
    EXPECT_TRUE(within_one_ulp(scaling.scale(), expected))
        << group << " after step " << step << ": got " << scaling.scale() << ", expected "
        << expected;
  }
}

// cast/x [steps, m, k]: every step is cast with the scale that the steps before it left.
void check_casts(const SafetensorsFile& file, const std::string& name) {
  const LowPrecisionFormat format =
      name == "e5m2" ? LowPrecisionFormat::e5m2 : LowPrecisionFormat::e4m3;
  const at::Tensor x = file.tensor("cast/x");
  const at::Tensor codes = file.tensor("cast/" + name + "/code");
  const at::Tensor scales = file.tensor("cast/" + name + "/scale_used");
  DelayedScaling scaling(
      {.format = format, .amax_history_len = 16, .amax_compute_algo = AmaxComputeAlgo::max});
  for (int64_t step = 0; step < x.size(0); ++step) {
    const float scale = scales[step].item<float>();
    EXPECT_TRUE(within_one_ulp(scaling.scale(), scale)) << name << " step " << step;
    const QuantizedTensor got = quantize_with_scale(x[step], format, scale);
    EXPECT_TRUE(same_bits(got.codes, codes[step])) << name << " step " << step;
    scaling.update(absolute_max(x[step]));
  }
}

}  // namespace

bool has_delayed_scaling(const SafetensorsFile& file) {
  return std::ranges::any_of(file.names(),
                             [](const std::string& key) { return key.ends_with("/history"); });
}

void check_delayed_scaling(const SafetensorsFile& file) {
  const std::regex sequence(
      "(.+)/(max|most_recent)_margin(-?[0-9]+)_history([0-9]+)_(e4m3|e5m2)/(scale|history)");
  const std::regex cast("cast/(e4m3|e5m2)/(code|scale_used)");
  std::set<std::string> casts;
  int sequences = 0;
  for (const std::string& key : file.names()) {
    std::smatch match;
    if (std::regex_match(key, match, sequence)) {
      if (match[6] != "scale") continue;
      ++sequences;
      replay(file, key.substr(0, key.rfind('/')),
             {.format = match[5] == "e5m2" ? LowPrecisionFormat::e5m2 : LowPrecisionFormat::e4m3,
              .amax_history_len = std::stoll(match[4]),
              .amax_compute_algo =
                  match[2] == "max" ? AmaxComputeAlgo::max : AmaxComputeAlgo::most_recent,
              .margin = std::stoi(match[3])},
             file.tensor("amax/" + match[1].str()));
    } else if (std::regex_match(key, match, cast)) {
      casts.insert(match[1]);
    } else {
      EXPECT_TRUE(key.starts_with("amax/") || key == "cast/x") << key << ": not checked";
    }
  }
  EXPECT_GT(sequences, 0);
  for (const std::string& name : casts) check_casts(file, name);
}

}  // namespace megatron::test
