#include "megatron/ops/attention/rope.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

// cos and sin tables whose halves differ, so that mixed-up elements are detected.
std::pair<at::Tensor, at::Tensor> table(int64_t s, int64_t rotary, at::ScalarType dtype) {
  return {random_tensor({s, rotary}, dtype, 11), random_tensor({s, rotary}, dtype, 12)};
}

Operator rotary(bool composed, const at::Tensor& cos, const at::Tensor& sin, bool interleaved) {
  return [=](const std::vector<at::Tensor>& in) {
    return composed ? unfused::apply_rotary(in[0], cos, sin, interleaved)
                    : apply_rotary(in[0], cos, sin, interleaved);
  };
}

TEST(ApplyRotary, MatchesTheUnfusedVersion) {
  for (const auto dtype : all_dtypes()) {
    const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
    for (const bool interleaved : {false, true}) {
      for (const int64_t rotary_dim : {64, 34, 2, 0}) {
        const auto [cos, sin] = table(5, rotary_dim, wide);
        const at::Tensor t = random_tensor({5, 2, 3, 64}, dtype, 1);
        expect_like_reference(rotary(false, cos, sin, interleaved),
                              rotary(true, cos, sin, interleaved), {t}, 2 * tolerance(dtype),
                              fmt::format("rotary {} of 64", rotary_dim));
      }
    }
  }
}

TEST(ApplyRotary, GradientsMatchFiniteDifferences) {
  for (const bool interleaved : {false, true}) {
    const auto [cos, sin] = table(3, 6, at::kDouble);
    expect_gradients_by_differences(rotary(false, cos, sin, interleaved),
                                    {random_tensor({3, 2, 2, 8}, at::kDouble, 1)});
  }
}

TEST(ApplyRotary, RotatesByTheAngle) {
  const double angle = 0.7;
  const at::Tensor t = at::tensor({1.0, 2.0, 3.0, 4.0}).reshape({1, 1, 1, 4});
  const at::Tensor cos = at::full({1, 4}, std::cos(angle), at::kDouble);
  const at::Tensor sin = at::full({1, 4}, std::sin(angle), at::kDouble);
  const at::Tensor rotated = apply_rotary(t.to(at::kDouble), cos, sin, false).view({4});
  // The pairs (1, 3) and (2, 4) rotate as points in the plane.
  EXPECT_NEAR(rotated[0].item<double>(), std::cos(angle) - 3 * std::sin(angle), 1e-14);
  EXPECT_NEAR(rotated[2].item<double>(), 3 * std::cos(angle) + std::sin(angle), 1e-14);
  const at::Tensor pairs = apply_rotary(t.to(at::kDouble), cos, sin, true).view({4});
  EXPECT_NEAR(pairs[0].item<double>(), std::cos(angle) - 2 * std::sin(angle), 1e-14);
  EXPECT_NEAR(pairs[1].item<double>(), 2 * std::cos(angle) + std::sin(angle), 1e-14);
}

// The queries are a slice of the QKV projection.
TEST(ApplyRotary, AcceptsStridedInputs) {
  const at::Tensor qkv = random_tensor({5, 2, 3, 48}, at::kFloat, 1);
  const auto [cos, sin] = table(5, 16, at::kFloat);
  const at::Tensor q = qkv.slice(3, 16, 32);
  const at::Tensor got = apply_rotary(q, cos, sin, false);
  EXPECT_TRUE(got.is_contiguous());
  expect_close(got, unfused::apply_rotary(q, cos, sin, false), 3e-6);
  const at::Tensor strided = random_tensor({16, 5, 2, 3}, at::kFloat, 1).permute({1, 2, 3, 0});
  expect_close(apply_rotary(strided, cos, sin, true),
               unfused::apply_rotary(strided, cos, sin, true), 3e-6);
}

TEST(ApplyRotary, RefusesInvalidShapes) {
  const at::Tensor t = at::zeros({3, 1, 1, 8});
  const auto [cos, sin] = table(3, 4, at::kFloat);
  expect_error([&] { apply_rotary(t[0], cos, sin, false); }, "Expected t of shape [s, b, n, d]");
  expect_error([&] { apply_rotary(t, cos.slice(0, 0, 2), sin, false); }, "Expected cos of shape");
  expect_error([&] { apply_rotary(t, cos, sin.slice(1, 0, 2), false); }, "Expected sin of shape");
  const auto [cos3, sin3] = table(3, 3, at::kFloat);
  expect_error([&] { apply_rotary(t, cos3, sin3, false); }, "even rot_dim of at most 8");
  const auto [cos10, sin10] = table(3, 10, at::kFloat);
  expect_error([&] { apply_rotary(t, cos10, sin10, false); }, "even rot_dim of at most 8");
}

}  // namespace
}  // namespace megatron::test
