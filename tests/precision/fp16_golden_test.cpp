// Loss scalers against megatron-core's, step by step: its scalers driven alone, and the scales of its
// fp16 training runs.
#include <cmath>
#include <memory>

#include <gtest/gtest.h>

#include "megatron/formats/json_file.h"
#include "megatron/precision/loss_scaler.h"

#include "tests/precision/golden_folder.h"

namespace megatron {
namespace {

using nlohmann::json;

// Of a case of scaler.json; null for an unknown kind.
std::unique_ptr<LossScaler> scaler_of_case(const json& scaler_case) {
  const json& args = scaler_case.at("args");
  const std::string kind = scaler_case.at("kind");
  if (kind == "constant") return std::make_unique<ConstantLossScaler>(args.at("initial_scale"));
  if (kind != "dynamic") return nullptr;
  return std::make_unique<DynamicLossScaler>(
      DynamicLossScalerOptions{.initial_scale = args.at("initial_scale"),
                               .min_scale = args.at("min_scale"),
                               .growth_factor = args.at("growth_factor"),
                               .backoff_factor = args.at("backoff_factor"),
                               .growth_interval = args.at("growth_interval"),
                               .hysteresis = args.at("hysteresis")});
}

// The state that megatron-core's dictionary names; NaN for another name.
double state_of(const LossScaler& scaler, const std::string& name) {
  if (name == "scale") return scaler.scale();
  if (name == "inv_scale") return scaler.inverse_scale();
  const auto* dynamic = dynamic_cast<const DynamicLossScaler*>(&scaler);
  if (dynamic && name == "growth_tracker") return dynamic->growth_tracker();
  if (dynamic && name == "hysteresis_tracker") return dynamic->hysteresis_tracker();
  return NAN;
}

void check_scaler_case(const json& scaler_case) {
  const std::string name = scaler_case.at("name");
  const auto scaler = scaler_of_case(scaler_case);
  ASSERT_TRUE(scaler) << name << ": Expected the kind dynamic or constant, but got "
                      << scaler_case.at("kind");
  const json& found_inf = scaler_case.at("found_inf");
  ASSERT_FALSE(found_inf.empty()) << name;
  for (size_t step = 0; step < found_inf.size(); ++step) {
    scaler->update(found_inf[step].get<double>() != 0);
    for (const auto& [state, values] : scaler_case.at("after").items()) {
      if (values.is_null() || values.at(step).is_null()) continue;
      ASSERT_EQ(state_of(*scaler, state), values.at(step).get<double>())
          << name << ", " << state << " after step " << step;
    }
  }
}

// The scales before and after each step of a training run, given which steps were applied.
void check_training_case(const json& run) {
  const json& args = run.at("optimizer");
  const json& steps = run.at("scaler");
  std::unique_ptr<LossScaler> scaler;
  if (args.contains("loss_scale") && !args.at("loss_scale").is_null()) {
    scaler = std::make_unique<ConstantLossScaler>(args.at("loss_scale"));
  } else {
    scaler = std::make_unique<DynamicLossScaler>(
        DynamicLossScalerOptions{.initial_scale = args.at("initial_loss_scale"),
                                 .min_scale = args.at("min_loss_scale"),
                                 .growth_interval = args.at("loss_scale_window"),
                                 .hysteresis = args.at("hysteresis")});
  }
  const json& applied = steps.at("applied");
  ASSERT_EQ(applied.size(), run.at("step_loss").size());
  for (size_t step = 0; step < applied.size(); ++step) {
    EXPECT_EQ(scaler->scale(), steps.at("loss_scale_before").at(step).get<double>()) << step;
    scaler->update(!applied[step].get<bool>());
    EXPECT_EQ(scaler->scale(), steps.at("loss_scale").at(step).get<double>()) << step;
  }
}

class Fp16Golden : public testing::TestWithParam<test::GoldenFile> {};

TEST_P(Fp16Golden, LossScaleIsExact) {
  REQUIRE_GOLDEN_FILE(GetParam());
  const json file = read_json_file(GetParam().path.string(), "a case of fp16");
  if (file.contains("cases")) {
    for (const json& scaler_case : file.at("cases")) check_scaler_case(scaler_case);
  } else if (file.contains("scaler") && file.contains("optimizer")) {
    check_training_case(file);
  } else {
    FAIL() << "Expected `cases` of loss scalers or `scaler` and `optimizer` of a training run";
  }
}

INSTANTIATE_TEST_SUITE_P(Files, Fp16Golden, testing::ValuesIn(test::golden_files("fp16", ".json")),
                         test::golden_name);

}  // namespace
}  // namespace megatron
