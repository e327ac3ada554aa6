// The program that launch_test.cpp starts as ranks: rank_probe <scenario> [flags]. Each rank prints
// one line, so that the test can count them.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <signal.h>
#include <string>
#include <thread>
#include <unistd.h>

#include "megatron/base/error.h"
#include "megatron/parallel/launch.h"

namespace megatron {
namespace {

volatile sig_atomic_t asked_to_stop = 0;

void print_line(const std::string& text) {
  const std::string line = text + "\n";
  [[maybe_unused]] const ssize_t written = write(STDOUT_FILENO, line.data(), line.size());
}

void expect(bool holds, const char* what) {
  check(holds, "Expected {} to hold, but it does not", what);
}

// Runs every collective over the groups of a layout and checks its result.
void use_collectives(const RankContext& context) {
  const int n = context.world_size, rank = context.rank;
  const auto groups = context.make_groups({.tp = 2, .dp = n / 2});
  const ProcessGroup& world = *groups.world;
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble, at::kLong}) {
    at::Tensor sum = at::full({1000}, rank + 1, dtype);
    world.all_reduce(sum);
    expect(at::equal(sum, at::full({1000}, n * (n + 1) / 2, dtype)), "all_reduce (sum)");
    const at::Tensor all = world.all_gather(at::full({2, 3}, rank, dtype));
    expect(all.size(0) == 2 * n && all[2 * n - 1][0].item<double>() == n - 1, "all_gather");
    const at::Tensor part = world.reduce_scatter(all);
    expect(at::equal(part, at::full({2, 3}, n * rank, dtype)), "reduce_scatter");
    at::Tensor root = at::full({3}, rank, dtype);
    world.broadcast(root, n - 1);
    expect(root[0].item<double>() == n - 1, "broadcast");
    const at::Tensor exchanged = world.all_to_all((at::arange(n) + 10 * rank).to(dtype));
    expect(at::equal(exchanged, (10 * at::arange(n) + rank).to(dtype)), "all_to_all");
  }
  for (const auto op : {ReduceOp::max, ReduceOp::min}) {
    at::Tensor extreme = at::full({1}, rank, at::kLong);
    world.all_reduce(extreme, op);
    expect(extreme.item<int64_t>() == (op == ReduceOp::max ? n - 1 : 0), "all_reduce (max, min)");
  }
  // Uneven: rank 0 sends r rows to rank r.
  std::vector<int64_t> to(n, 0), from(n, 0);
  int64_t rows = 0;
  for (int r = 0; rank == 0 && r < n; ++r) rows += to[r] = r;
  from[0] = rank;
  expect(world.all_to_all(at::ones({rows, 2}), from, to).size(0) == rank, "uneven all_to_all");
  at::Tensor tp_sum = at::full({1}, rank, at::kLong);
  groups.tp->all_reduce(tp_sum);
  expect(tp_sum.item<int64_t>() == 2 * (rank / 2 * 2) + 1, "all_reduce over tp");
  // Two tags, received in reverse order.
  const int next = (rank + 1) % n, previous = (rank + n - 1) % n;
  const at::Tensor first = at::full({100'000}, rank), second = at::full({5}, rank + 50);
  auto first_sent = world.isend(first, next, 1), second_sent = world.isend(second, next, 2);
  at::Tensor got_first = at::empty_like(first), got_second = at::empty_like(second);
  world.recv(got_second, previous, 2);
  world.recv(got_first, previous, 1);
  first_sent->wait();
  second_sent->wait();
  expect(got_first[99'999].item<int64_t>() == previous, "recv of tag 1");
  expect(got_second[4].item<int64_t>() == previous + 50, "recv of tag 2");
  check_same_on_all_ranks(world, "options", 42);
  world.barrier();
  print_line(fmt::format("rank {} of {} over {} ok", rank, n, context.transport->kind()));
}

int run(const std::string& scenario, RankContext& context) {
  const bool second = context.rank == 1;
  if (scenario == "collectives") {
    use_collectives(context);
    return 0;
  }
  if (scenario == "context") {
    print_line(fmt::format("rank {} of {} local {} threads {} timeout {} transport {}",
                           context.rank, context.world_size, context.local_rank, context.threads,
                           context.timeout.count(),
                           context.transport ? context.transport->kind() : "none"));
    return 0;
  }
  if (scenario == "status") return second ? 5 : 0;

  if (scenario == "throw-all") fail("Expected every rank to fail, and it did");
  if (scenario == "orphan") {
    print_line(std::to_string(getpid()));
    while (true) std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  if (scenario == "stop") {
    struct sigaction action {};
    action.sa_handler = [](int) { asked_to_stop = 1; };
    sigaction(SIGTERM, &action, nullptr);
    print_line("ready");
    while (!asked_to_stop) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    print_line("stopped");
    return 0;
  }

  // Only the operation that must time out has a short limit. The setup before it may take long on a
  // busy machine.
  RankContext limited = context;
  if (scenario == "hang") limited.timeout = std::chrono::milliseconds(1500);
  const auto groups = limited.make_groups({.tp = context.world_size});
  context.make_groups({.dp = context.world_size}).world->barrier();
  if (second) {
    if (scenario == "kill") raise(SIGKILL);
    if (scenario == "throw") fail("Expected a better rank, but got this one");
    if (scenario == "throw-in-turn") fail("Expected to be the first, but was not");
    if (scenario == "leave") return 0;
    while (scenario == "hang") std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  if (scenario == "throw-in-turn" && context.rank == 0) {
    try {
      groups.tp->recv(at::empty({1}), 1);
    } catch (const CommunicationError&) {
      fail("Expected a better rank, but got this one");
    }
  }
  if (scenario == "options") check_same_on_all_ranks(*groups.world, "options", second ? 1 : 2);
  at::Tensor tensor = at::ones({10});
  groups.tp->all_reduce(tensor);
  return 0;
}

int probe(int argc, char** argv) {
  LaunchConfig config;
  const std::string scenario = argc > 1 ? argv[1] : "";
  for (int i = 2; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--threads-as-ranks") {
      config.threads_as_ranks = true;
      continue;
    }
    check(i + 1 < argc, "Expected a value after {}", flag);
    const char* value = argv[++i];
    if (flag == "--nproc") {
      config.nproc = std::atoll(value);
    } else if (flag == "--threads") {
      config.threads = std::atoll(value);
    } else if (flag == "--master-port") {
      config.master_port = std::atoll(value);
    } else if (flag == "--distributed-timeout-minutes") {
      config.distributed_timeout_minutes = std::atof(value);
    } else {
      fail("Expected a known flag, but got {}", flag);
    }
  }
  return launch(config, [&](RankContext& context) { return run(scenario, context); });
}

}  // namespace
}  // namespace megatron

int main(int argc, char** argv) {
  try {
    return megatron::probe(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
