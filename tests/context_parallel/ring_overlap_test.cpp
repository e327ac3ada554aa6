// Ring attention computes between the start of a transfer and the wait for it.
#include <algorithm>
#include <string>
#include <vector>

#include <ATen/record_function.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "megatron/context_parallel/context_parallel_attention.h"

#include "tests/ops/op_test.h"

namespace megatron {
namespace {

// The events in order: "send 0", "wait 0" (with the tag), "compute".
std::vector<std::string>& events() {
  thread_local std::vector<std::string> list;
  return list;
}

std::unique_ptr<at::ObserverContext> record_matmul(const at::RecordFunction& function) {
  if (std::string_view(function.name()) == "aten::bmm") events().push_back("compute");
  return nullptr;
}

// A backend whose peer sends ones; no transfer completes before wait().
class RecordingBackend final : public c10d::Backend {
 public:
  RecordingBackend() : Backend(/*rank=*/0, /*size=*/2) {}
  const std::string getBackendName() const override { return "recording"; }

  c10::intrusive_ptr<c10d::Work> send(std::vector<at::Tensor>&, int, int tag) override {
    return record_start("send", tag, {});
  }
  c10::intrusive_ptr<c10d::Work> recv(std::vector<at::Tensor>& tensors, int, int tag) override {
    return record_start("receive", tag, tensors[0]);
  }

 private:
  struct Transfer final : c10d::Work {
    Transfer(int tag, at::Tensor arriving) : tag(tag), arriving(std::move(arriving)) {}
    bool isCompleted() override { return done; }
    bool isSuccess() const override { return done; }
    bool wait(std::chrono::milliseconds) override {
      if (arriving.defined()) arriving.fill_(1);
      events().push_back(fmt::format("wait {}", tag));
      return done = true;
    }
    int tag;
    at::Tensor arriving;
    bool done = false;
  };

  static c10::intrusive_ptr<c10d::Work> record_start(const char* what, int tag,
                                                     at::Tensor arriving) {
    events().push_back(fmt::format("{} {}", what, tag));
    return c10::make_intrusive<Transfer>(tag, std::move(arriving));
  }
};

// Whether a computation took place between the first `start` and the next `end`.
bool computed_between(const std::string& start, const std::string& end) {
  const auto from = std::ranges::find(events(), start);
  const auto to = std::find(from, events().end(), end);
  return to != events().end() && std::find(from, to, "compute") != to;
}

TEST(RingAttention, OverlapsComputationWithTransfers) {
  const auto cp = std::make_shared<ProcessGroup>("cp", std::vector<int>{0, 1}, /*global_rank=*/0,
                                                 c10::make_intrusive<RecordingBackend>(),
                                                 std::chrono::seconds(10));
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(record_matmul).scopes({at::RecordScope::FUNCTION}));
  const auto input = [](uint64_t seed) {
    return test::random_tensor({4, 1, 2, 4}, at::kDouble, seed).requires_grad_();
  };
  events().clear();
  const at::Tensor out = context_parallel_attention(
      input(1), input(2), input(3), {.cp = cp, .split = {.length = 8, .size = 2}, .unfused = true});
  EXPECT_TRUE(computed_between("send 0", "wait 0"));
  EXPECT_TRUE(computed_between("receive 0", "wait 0"));
  events().clear();
  out.sum().backward();
  at::removeCallback(handle);
  EXPECT_TRUE(computed_between("send 0", "wait 0"));
  EXPECT_TRUE(computed_between("send 1", "wait 1"));
  EXPECT_TRUE(computed_between("receive 1", "wait 1"));
}

}  // namespace
}  // namespace megatron
