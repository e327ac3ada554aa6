#include "megatron/config/model/attention_backend.h"

#include <cstdlib>
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/base/problems.h"
#include "megatron/config/model/model_checks.h"

namespace megatron {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

using Backend = AttentionBackend;
constexpr const char* kVariables[] = {"NVTE_FLASH_ATTN", "NVTE_FUSED_ATTN", "NVTE_UNFUSED_ATTN"};

// Sets the three variables; an empty value unsets one.
class AttentionEnvironment : public testing::Test {
 protected:
  void set(const std::array<std::string, 3>& values) {
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i].empty()) {
        unsetenv(kVariables[i]);
      } else {
        setenv(kVariables[i], values[i].c_str(), /*replace=*/1);
      }
    }
  }
  void TearDown() override { set({}); }
};

TEST_F(AttentionEnvironment, FollowsMegatronsTable) {
  const std::pair<Backend, std::array<std::string, 3>> table[] = {
      {Backend::local, {"0", "0", "0"}},     {Backend::flash, {"1", "0", "0"}},
      {Backend::fused, {"0", "1", "0"}},     {Backend::unfused, {"0", "0", "1"}},
      {Backend::automatic, {"1", "1", "1"}},
  };
  for (const auto& [asked, ignored] : table) {
    set({});
    EXPECT_NO_THROW(check_attention_environment(asked));
    for (const auto& [backend, values] : table) {
      set(values);
      if (backend == asked) {
        EXPECT_NO_THROW(check_attention_environment(asked));
      } else {
        EXPECT_THROW(check_attention_environment(asked), Error);
      }
    }
  }
}

TEST_F(AttentionEnvironment, ErrorNamesVariableAndValidValues) {
  set({"0", "", ""});
  EXPECT_THAT([] { check_attention_environment(Backend::flash); },
              ThrowsMessage<Error>(AllOf(
                  HasSubstr("NVTE_FLASH_ATTN=1 in the environment for attention_backend=flash"),
                  HasSubstr("but got '0'"), HasSubstr("unset it"),
                  HasSubstr("attention_backend fused or unfused or local"))));
  set({"", "yes", ""});
  EXPECT_THAT([] { check_attention_environment(Backend::automatic); },
              ThrowsMessage<Error>(AllOf(HasSubstr("NVTE_FUSED_ATTN=1"), HasSubstr("'yes'"))));
}

TEST(AttentionBackendChoice, AutomaticSelectsABackendThatSupportsTheCall) {
  const auto chosen = [](const AttentionDemands& demands, bool cuda) {
    return resolve_attention_backend(Backend::automatic, demands, cuda);
  };
  EXPECT_EQ(chosen({}, false), Backend::fused);
  EXPECT_EQ(chosen({.dropout = true}, false), Backend::fused);
  EXPECT_EQ(chosen({.window = true, .sinks = true, .packed = true}, false), Backend::fused);
  EXPECT_EQ(chosen({.dropout = true, .mask = true}, false), Backend::unfused);
  EXPECT_EQ(chosen({.bias = true}, false), Backend::unfused);
  EXPECT_EQ(chosen({}, true), Backend::flash);
  EXPECT_EQ(chosen({.dropout = true}, true), Backend::unfused);
}

TEST(AttentionBackendChoice, ExplicitBackendWithoutSupportIsAnError) {
  const AttentionDemands all{.dropout = true,
                             .window = true,
                             .sinks = true,
                             .packed = true,
                             .mask = true,
                             .bias = true,
                             .cached = true};
  for (const bool cuda : {false, true}) {
    EXPECT_EQ(resolve_attention_backend(Backend::unfused, all, cuda), Backend::unfused);
    EXPECT_EQ(resolve_attention_backend(Backend::local, all, cuda), Backend::local);
    EXPECT_THROW(resolve_attention_backend(Backend::flash, {.dropout = true}, cuda), Error);
    EXPECT_THROW(resolve_attention_backend(Backend::flash, {.window = true}, cuda), Error);
    EXPECT_THROW(resolve_attention_backend(Backend::flash, {.sinks = true}, cuda), Error);
    EXPECT_THROW(resolve_attention_backend(Backend::fused, {.mask = true}, cuda), Error);
    EXPECT_THROW(resolve_attention_backend(Backend::fused, {.bias = true}, cuda), Error);
  }
  EXPECT_EQ(resolve_attention_backend(Backend::fused, {.dropout = true}, false), Backend::fused);
  EXPECT_THAT(
      [] { resolve_attention_backend(Backend::fused, {.dropout = true}, /*cuda=*/true); },
      ThrowsMessage<Error>(AllOf(HasSubstr("attention_dropout above 0, but got fused on a GPU"),
                                 HasSubstr("unfused or local works"))));
}

TEST(AttentionBackendChoice, IsPartOfTheModelChecks) {
  GPTModelConfig config;
  config.transformer.num_layers = 2;
  config.transformer.hidden_size = 8;
  config.transformer.num_attention_heads = 2;
  config.transformer.attention_backend = Backend::flash;
  Problems problems;
  check_attention(config, problems);
  EXPECT_THAT([&] { problems.throw_if_any(); },
              ThrowsMessage<Error>(
                  HasSubstr("Expected attention_backend auto, fused, unfused or local with "
                            "attention_dropout above 0, but got flash; auto works")));
  config.transformer.attention_dropout = 0;
  Problems none;
  check_attention(config, none);
  EXPECT_TRUE(none.empty());
}

TEST(AttentionBackendChoice, DemandsFollowTheLayers) {
  TransformerConfig config;
  config.num_layers = 4;
  config.attention_dropout = 0;
  config.window_size = {7, 0};
  config.window_attn_skip_freq = {2};
  EXPECT_TRUE(AttentionDemands::of_layer(config, 1).window);
  EXPECT_FALSE(AttentionDemands::of_layer(config, 2).window);
  EXPECT_TRUE(AttentionDemands::of_model(config).window);
  EXPECT_FALSE(AttentionDemands::of_model(config).dropout);
}

}  // namespace
}  // namespace megatron
