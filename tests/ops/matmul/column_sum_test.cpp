#include "megatron/ops/matmul/column_sum.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

TEST(ColumnSum, MatchesFp64AndDoesNotDependOnThreads) {
  const int threads = at::get_num_threads();
  for (const auto dtype : all_dtypes()) {
    for (const auto& shape : {std::vector<int64_t>{1000, 2, 37}, {3, 5}, {4}, {0, 6}, {2, 0}}) {
      const at::Tensor x = random_tensor(shape, dtype, 1);
      at::set_num_threads(1);
      const at::Tensor alone = column_sum(x);
      at::set_num_threads(2);
      expect_identical(column_sum(x), alone);
      at::set_num_threads(threads);
      const at::Tensor want =
          x.to(at::kDouble)
              .reshape({shape.back() == 0 ? 2 : x.numel() / shape.back(), shape.back()})
              .sum(0)
              .to(dtype);
      expect_close(alone, want, 30 * tolerance(dtype));
    }
  }
}

}  // namespace
}  // namespace megatron::test
