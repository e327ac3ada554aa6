// The option table is complete, and its names are unique.
#include "megatron/config/options/option_table.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <map>
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace megatron {
namespace {

using ::testing::HasSubstr;

TEST(OptionTable, EveryOptionHasHelpSectionAndSubcommand) {
  for (const Option& option : option_table().options()) {
    EXPECT_FALSE(option.flag.empty());
    EXPECT_FALSE(option.help.empty()) << option.flag;
    EXPECT_FALSE(option.section.empty()) << option.flag;
    EXPECT_NE(option.taken_by, 0U) << option.flag;
    EXPECT_EQ(option.required_by & ~option.taken_by, 0U) << option.flag;
    EXPECT_NE(option.help.back(), '.') << option.flag;
  }
}

TEST(OptionTable, PlanAcceptsTrainingOptions) {
  for (const Option& option : option_table().options()) {
    if (!contains(option.taken_by, Command::train)) continue;
    EXPECT_TRUE(contains(option.taken_by, Command::plan)) << option.flag;
  }
}

TEST(OptionTable, EveryNumberHasAUnit) {
  Options options;
  for (const Option& option : option_table().options()) {
    if (option.is_shorthand() || !is_number(option.value(options))) continue;
    EXPECT_FALSE(option.unit.empty()) << option.flag;
  }
}

TEST(OptionTable, NamesAreUniqueAndFieldsAreDistinctMembers) {
  Options options;
  std::set<std::string> flags, fields;
  std::set<const void*> members;
  for (const Option& option : option_table().options()) {
    EXPECT_TRUE(flags.insert(option.flag).second) << option.flag;
    for (const auto& alias : option.flag_aliases) EXPECT_TRUE(flags.insert(alias).second) << alias;
    EXPECT_TRUE(fields.insert(option.field).second) << option.field;
    for (const auto& alias : option.field_aliases)
      EXPECT_TRUE(fields.insert(alias).second) << alias;
    if (option.is_shorthand()) continue;
    const FieldValue value = option.value(options);
    const void* member = std::visit(
        []<typename T>(const T& held) -> const void* {
          if constexpr (requires { held.field; }) {
            return held.field;
          } else {
            return held;
          }
        },
        value);
    EXPECT_TRUE(members.insert(member).second) << option.flag;
  }
}

TEST(OptionTable, KeysAreUnambiguous) {
  for (const Option& option : option_table().options()) {
    const auto by_flag = option_table().find_key(option.flag);
    ASSERT_NE(by_flag.option, nullptr) << option.flag;
    EXPECT_EQ(by_flag.option->flag, option.flag);
    if (with_underscores(option.flag) != option.field) {
      EXPECT_EQ(by_flag.inverted, option.inverted) << option.flag;
    }
    const auto by_field = option_table().find_key(option.field);
    ASSERT_NE(by_field.option, nullptr) << option.field;
    EXPECT_EQ(by_field.option->flag, option.flag);
  }
}

TEST(OptionTable, InvertedOptionsAreBoolsThatDefaultToTrue) {
  Options options;
  for (const Option& option : option_table().options()) {
    if (!option.inverted) continue;
    ASSERT_TRUE(is_bool(option.value(options))) << option.flag;
    EXPECT_TRUE(*std::get<bool*>(option.value(options))) << option.flag;
  }
}

TEST(OptionTable, ShorthandsAssignValidValues) {
  for (const Option& option : option_table().options()) {
    EXPECT_TRUE(option.is_shorthand() || (option.sets.empty() && !option.derive)) << option.flag;
    if (!option.is_shorthand()) continue;
    EXPECT_TRUE(!option.sets.empty() || option.derive) << option.flag;
    for (const auto& [field, text] : option.sets) {
      const Option* target = option_table().find_field(field);
      ASSERT_NE(target, nullptr) << field;
      Options options;
      EXPECT_NO_THROW(set_from_text(target->value(options), text, field));
      EXPECT_EQ(option.taken_by & ~target->taken_by, 0U) << option.flag;
    }
  }
}

struct Member {
  const char* start;
  std::vector<size_t> sizes;  // an enumeration or an optional one
  size_t alignment;
};

template <typename T>
Member plain_member(const T* field) {
  return {reinterpret_cast<const char*>(field), {sizeof(T)}, alignof(T)};
}

Member plain_member(const EnumReference& reference) {
  return {static_cast<const char*>(reference.field),
          {sizeof(Normalization), sizeof(std::optional<TokenizerType>)},
          alignof(Normalization)};
}

Member plain_member(const JsonReference& reference) {
  return {static_cast<const char*>(reference.field),
          {sizeof(TpCommOverlapConfig)},
          alignof(TpCommOverlapConfig)};
}

const char* align_up(const char* address, size_t alignment) {
  const auto number = reinterpret_cast<uintptr_t>(address);
  return reinterpret_cast<const char*>((number + alignment - 1) / alignment * alignment);
}

// Fields of the model for C++ and dictionaries, which have no flag.
std::vector<Member> members_without_option(GPTModelConfig& model) {
  return {plain_member(&model.restore_modelopt_state),
          plain_member(&model.extra_checkpoint_metadata),
          plain_member(&model.pre_wrap_hooks),
          plain_member(&model.post_wrap_hooks),
          plain_member(&model.builder),
          plain_member(&model.transformer_layer_spec),
          plain_member(&model.parallel_output),
          plain_member(&model.scatter_embedding_sequence_parallel),
          plain_member(&model.tp_comm_overlap_cfg.entries),
          plain_member(&model.use_arbitrary_attention_mask)};
}

// A member of Options that is missing in the table could not be assigned and would not be saved. It
// shows as a gap between two members of the table that is larger than alignment requires.
TEST(OptionTable, CoversEveryFieldOfOptions) {
  Options options;
  std::vector<Member> members = members_without_option(options.model);
  std::map<const char*, std::string> name_at;
  for (const Option& option : option_table().options()) {
    if (option.is_shorthand()) continue;
    members.push_back(
        std::visit([](const auto& held) { return plain_member(held); }, option.value(options)));
    name_at[members.back().start] = option.field;
  }
  std::sort(members.begin(), members.end(),
            [](const auto& a, const auto& b) { return a.start < b.start; });
  const char* const start = reinterpret_cast<const char*>(&options);
  EXPECT_EQ(members.front().start, start);
  for (size_t i = 0; i < members.size(); ++i) {
    const bool last = i + 1 == members.size();
    const char* const next = last ? start + sizeof(Options) : members[i + 1].start;
    const bool explained =
        std::any_of(members[i].sizes.begin(), members[i].sizes.end(), [&](size_t size) {
          const char* const end = members[i].start + size;
          // The next struct starts at the alignment of its most aligned member.
          return next == align_up(end, alignof(Options)) ||
                 (!last && next == align_up(end, members[i + 1].alignment));
        });
    EXPECT_TRUE(explained) << "behind " << name_at[members[i].start] << ": "
                           << next - members[i].start << " bytes";
  }
}

TEST(FieldValue, ParsesEveryTypeAndNamesTheExpectedOne) {
  int64_t whole = 0;
  double number = 0;
  at::ScalarType dtype = at::kFloat;
  std::optional<int64_t> maybe;
  set_from_text(field_value(whole), "-12", "--x");
  EXPECT_EQ(whole, -12);
  set_from_text(field_value(whole), "+7", "--x");
  EXPECT_EQ(whole, 7);
  set_from_text(field_value(number), "1e-5", "--x");
  EXPECT_EQ(number, 1e-5);
  set_from_text(field_value(dtype), "torch.bfloat16", "--x");
  EXPECT_EQ(dtype, at::kBFloat16);
  set_from_text(field_value(maybe), "3", "--x");
  EXPECT_EQ(maybe, 3);

  const auto message = [](const FieldValue& value, const char* text) {
    try {
      set_from_text(value, text, "--x");
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(message(field_value(whole), "x"), "Expected an integer for --x, but got 'x'");
  EXPECT_EQ(message(field_value(whole), "1.5"), "Expected an integer for --x, but got '1.5'");
  EXPECT_EQ(message(field_value(whole), ""), "Expected an integer for --x, but got ''");
  EXPECT_THAT(message(field_value(whole), "99999999999999999999"), HasSubstr("a 64-bit integer"));
  EXPECT_EQ(message(field_value(number), "1e"), "Expected a number for --x, but got '1e'");
  EXPECT_EQ(message(field_value(number), "nan"), "Expected a finite number for --x, but got 'nan'");
  EXPECT_EQ(message(field_value(number), "inf"), "Expected a finite number for --x, but got 'inf'");
  EXPECT_EQ(message(field_value(dtype), "fp8"),
            "Expected one of fp32, bf16, fp16, fp64 for --x, but got 'fp8'");
  EXPECT_EQ(whole, 7);
}

}  // namespace
}  // namespace megatron
