#include "megatron/ops/attention/attention_mask.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

at::Tensor numbers(std::vector<int64_t> list) {
  return at::tensor(list, at::kLong);
}

std::vector<std::pair<int64_t, int64_t>> ranges(const AttentionMask& mask, int64_t sq, int64_t sk) {
  std::vector<std::pair<int64_t, int64_t>> result;
  for (const KeyRange& range : mask.visible_keys(sq, sk))
    result.push_back({range.first, range.last});
  return result;
}

using Ranges = std::vector<std::pair<int64_t, int64_t>>;

TEST(AttentionMask, CausalQueriesSeeTheKeysUpToTheirPosition) {
  EXPECT_EQ(ranges({}, 4, 4), (Ranges{{0, 1}, {0, 2}, {0, 3}, {0, 4}}));
  EXPECT_EQ(ranges({.query_offset = 2}, 2, 4), (Ranges{{0, 3}, {0, 4}}));
  EXPECT_EQ(ranges({}, 3, 2), (Ranges{{0, 1}, {0, 2}, {0, 2}}));
  EXPECT_EQ(ranges({.causal = false}, 2, 3), (Ranges{{0, 3}, {0, 3}}));
  EXPECT_EQ(ranges({}, 2, 0), (Ranges{{0, 0}, {0, 0}}));
}

TEST(AttentionMask, WindowBoundsBothSides) {
  EXPECT_EQ(ranges({.window = AttentionWindow{1, 0}}, 4, 4),
            (Ranges{{0, 1}, {0, 2}, {1, 3}, {2, 4}}));
  EXPECT_EQ(ranges({.causal = false, .window = AttentionWindow{0, 2}}, 4, 4),
            (Ranges{{0, 3}, {1, 4}, {2, 4}, {3, 4}}));
  EXPECT_EQ(ranges({.causal = false, .window = AttentionWindow{-1, 1}}, 3, 4),
            (Ranges{{0, 2}, {0, 3}, {0, 4}}));
  // The causal mask is narrower than the window's right bound.
  EXPECT_EQ(ranges({.window = AttentionWindow{-1, 2}}, 2, 4), (Ranges{{0, 1}, {0, 2}}));
  // Queries 2 and 3 have positions 5 and 6, more than 2 after the last of the 3 keys.
  EXPECT_EQ(ranges({.window = AttentionWindow{2, 0}, .query_offset = 3}, 4, 3),
            (Ranges{{1, 3}, {2, 3}, {3, 3}, {3, 3}}));
}

TEST(AttentionMask, PackedQueriesSeeTheirOwnSequence) {
  EXPECT_EQ(ranges({.cu_seqlens_q = numbers({0, 2, 5})}, 5, 5),
            (Ranges{{0, 1}, {0, 2}, {2, 3}, {2, 4}, {2, 5}}));
  EXPECT_EQ(ranges({.window = AttentionWindow{1, 0}, .cu_seqlens_q = numbers({0, 2, 5})}, 5, 5),
            (Ranges{{0, 1}, {0, 2}, {2, 3}, {2, 4}, {3, 5}}));
  EXPECT_EQ(ranges({.causal = false,
                    .cu_seqlens_q = numbers({0, 1, 3}).to(at::kInt),
                    .cu_seqlens_k = numbers({0, 4, 6})},
                   3, 6),
            (Ranges{{0, 4}, {4, 6}, {4, 6}}));
}

TEST(AttentionMask, PositionsPlaceBlocksOfASequence) {
  EXPECT_EQ(
      ranges({.query_positions = numbers({0, 3, 7}), .key_positions = numbers({2, 3, 6, 8})}, 3, 4),
      (Ranges{{0, 0}, {0, 2}, {0, 3}}));
  EXPECT_EQ(ranges({.window = AttentionWindow{4, 0},
                    .query_positions = numbers({0, 3, 7}),
                    .key_positions = numbers({2, 3, 6, 8})},
                   3, 4),
            (Ranges{{0, 0}, {0, 2}, {1, 3}}));
  EXPECT_EQ(ranges({.query_positions = numbers({1, 4, 7}),
                    .key_positions = numbers({0, 3, 4, 6}),
                    .cu_seqlens_q = numbers({0, 4, 8})},
                   3, 4),
            (Ranges{{0, 1}, {2, 3}, {2, 4}}));
}

// Whether query i sees key j, rule by rule.
bool sees(const AttentionMask& mask, int64_t i, int64_t j) {
  const auto element = [](const at::Tensor& x, int64_t index) { return x[index].item<int64_t>(); };
  int64_t query = i, key = j;
  if (mask.query_positions.defined()) {
    query = element(mask.query_positions, i);
    key = element(mask.key_positions, j);
  }
  if (mask.cu_seqlens_q.defined()) {
    const at::Tensor& starts_q = mask.cu_seqlens_q;
    const at::Tensor& starts_k = mask.cu_seqlens_k.defined() ? mask.cu_seqlens_k : starts_q;
    int64_t of_query = 0, of_key = 0;
    while (query >= element(starts_q, of_query + 1)) ++of_query;
    while (key >= element(starts_k, of_key + 1)) ++of_key;
    if (of_query != of_key) return false;
    query -= element(starts_q, of_query);
    key -= element(starts_k, of_key);
  }
  query += mask.query_offset;
  if (mask.causal && key > query) return false;
  if (!mask.window) return true;
  const auto [left, right] = *mask.window;
  return (left < 0 || key >= query - left) && (right < 0 || key <= query + right);
}

TEST(AttentionMask, MaterializesTheRulesKeyByKey) {
  const auto generator = at::detail::createCPUGenerator(3);
  const at::Tensor masked =
      at::randint(2, {2, 1, 12, 15}, generator, at::TensorOptions(at::kLong)).to(at::kBool);
  const AttentionMask packed{.cu_seqlens_q = numbers({0, 5, 6, 12}),
                             .cu_seqlens_k = numbers({0, 2, 9, 15})};
  const AttentionMask placed{
      .query_positions = numbers({0, 2, 3, 5, 8, 9, 10, 12, 20, 21, 26, 27}),
      .key_positions = numbers({1, 2, 3, 4, 6, 8, 10, 11, 12, 14, 17, 20, 22, 26, 29})};
  AttentionMask placed_packed = placed;
  placed_packed.cu_seqlens_q = numbers({0, 3, 11, 30});
  for (AttentionMask mask : {AttentionMask{}, AttentionMask{.query_offset = 3}, packed, placed,
                             placed_packed, AttentionMask{.masked = masked}}) {
    for (const bool causal : {true, false}) {
      for (const auto& window :
           {std::optional<AttentionWindow>(), std::optional(AttentionWindow{0, 0}),
            std::optional(AttentionWindow{3, -1}), std::optional(AttentionWindow{-1, 2}),
            std::optional(AttentionWindow{2, 5})}) {
        mask.causal = causal;
        mask.window = window;
        const at::Tensor got = mask.materialize(12, 15, at::kCPU);
        ASSERT_EQ(got.size(0), mask.masked.defined() ? 2 : 1);
        for (int64_t b = 0; b < got.size(0); ++b) {
          for (int64_t i = 0; i < 12; ++i) {
            for (int64_t j = 0; j < 15; ++j) {
              const bool want =
                  !sees(mask, i, j) || (mask.masked.defined() && masked[b][0][i][j].item<bool>());
              ASSERT_EQ(got[b][0][i][j].item<bool>(), want) << i << ' ' << j;
            }
          }
        }
      }
    }
  }
}

TEST(AttentionMask, RefusesMasksThatDoNotFit) {
  const at::Tensor q = at::zeros({6, 1, 4, 8}), k = at::zeros({6, 1, 2, 8});
  const auto expect = [&](const AttentionMask& mask, const std::string& text) {
    expect_error([&] { mask.validate(q, k, "attention"); }, text);
  };
  expect({.query_offset = -1}, "query_offset of at least 0");
  expect({.masked = at::zeros({1, 1, 3, 3}, at::kBool)}, "a mask of shape [1 or 1, 1, 6, 6]");
  expect({.masked = at::zeros({1, 1, 6, 6})}, "dtype bool");
  const at::Tensor positions = at::arange(6, at::kLong);
  expect({.query_positions = positions}, "key_positions");
  expect({.query_positions = positions.flip(0), .key_positions = positions}, "that ascend");
  expect({.query_positions = positions - 1, .key_positions = positions}, "at least 0");
  expect({.query_positions = positions.to(at::kInt), .key_positions = positions},
         "int64 on the CPU");
  expect({.query_offset = 1, .query_positions = positions, .key_positions = positions},
         "query_offset 0 with query_positions, but got 1");
  expect(
      {.query_positions = positions, .key_positions = positions, .cu_seqlens_q = numbers({0, 5})},
      "positions below the end of cu_seqlens_q, 5, but got 5");
  expect({.query_positions = positions,
          .key_positions = positions,
          .cu_seqlens_q = numbers({0, 6}),
          .cu_seqlens_k = numbers({0, 6})},
         "cu_seqlens_q alone");
  expect({.cu_seqlens_q = numbers({0, 4, 3, 6})}, "to increase, but got 3 after 4 at index 2");
  expect({.cu_seqlens_q = numbers({0, 4, 4, 6})}, "leave empty sequences out");
  expect({.cu_seqlens_q = numbers({0, 4, 5})}, "to end at the number of tokens, 6, but got 5");
  expect({.cu_seqlens_q = numbers({1, 6})}, "to start at 0, but got 1");
  expect({.cu_seqlens_q = numbers({0, 6}).to(at::kFloat)}, "int32 or int64 on the CPU");
  expect({.cu_seqlens_q = numbers({0, 2, 6}), .cu_seqlens_k = numbers({0, 6})},
         "as many sequences in cu_seqlens_k as in cu_seqlens_q, 2, but got 1");
  expect({.cu_seqlens_k = numbers({0, 6})}, "cu_seqlens_k alone");
  expect({.query_offset = 2, .cu_seqlens_q = numbers({0, 6})}, "query_offset 0 with packed");
  const at::Tensor pair = at::zeros({6, 2, 4, 8});
  expect_error(
      [&] {
        AttentionMask{.cu_seqlens_q = numbers({0, 6})}.validate(pair, pair, "attention");
      },
      "in a batch of 1, but got 2");
}

}  // namespace
}  // namespace megatron::test
