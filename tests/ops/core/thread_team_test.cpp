#include "megatron/ops/core/thread_team.h"

#include <vector>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace megatron {
namespace {

TEST(ThreadTeam, PartsCoverTheRangeOnce) {
  for (const int size : {1, 2, 3, 7}) {
    ThreadTeam::Barrier barrier;
    int64_t next = 0;
    for (int thread = 0; thread < size; ++thread) {
      const WorkRange part = ThreadTeam(barrier, thread, size).part(10);
      EXPECT_EQ(part.first, next);
      EXPECT_LE(part.last - part.first, 10 / size + 1);
      next = part.last;
    }
    EXPECT_EQ(next, 10);
  }
}

// Every thread sees what the others wrote before a barrier, in each of many rounds.
TEST(ThreadTeam, BarriersOrderTheRounds) {
  const int threads = at::get_num_threads();
  for (const int count : {1, 2, 4}) {
    at::set_num_threads(count);
    std::vector<int64_t> values(64, 0);
    std::atomic<int> wrong = 0;
    run_team([&](ThreadTeam& team) {
      for (int64_t round = 1; round <= 200; ++round) {
        values[team.thread()] = round;
        team.barrier();
        for (int thread = 0; thread < team.size(); ++thread) wrong += values[thread] != round;
        team.barrier();
      }
    });
    EXPECT_EQ(wrong, 0) << count << " threads";
  }
  at::set_num_threads(threads);
}

}  // namespace
}  // namespace megatron
