#include "tests/checkpoint/checkpoint_fixture.h"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "megatron/base/error.h"
#include "megatron/checkpoint/save_checkpoint.h"

#include "tests/parallel/thread_world.h"

namespace megatron {

ProcessGroup world_of_one() {
  return ProcessGroup("world", {0}, 0, nullptr, std::chrono::seconds(10));
}

void run_ranks(int world_size, const std::function<void(const ProcessGroup& world)>& rank_main) {
  run_thread_world(world_size, [&](RankContext& context) {
    ParallelSizes sizes;
    sizes.dp = world_size;
    rank_main(*context.make_groups(sizes).world);
  });
}

void save_in_ranks(const std::filesystem::path& root, int64_t iteration,
                   const std::vector<ShardedStateDict>& states) {
  run_ranks(static_cast<int>(states.size()), [&](const ProcessGroup& world) {
    const auto& state = states[static_cast<size_t>(world.rank())];
    save_checkpoint(root, iteration, state, {{"iteration", iteration}}, world);
  });
}

at::Tensor numbered(std::vector<int64_t> shape, at::ScalarType dtype) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return at::arange(count, at::kLong).to(dtype).reshape(shape);
}

ShardedTensor whole(const std::string& key, at::Tensor data) {
  ShardedTensor result;
  result.key = key;
  result.global_shape = data.sizes().vec();
  result.global_offset.assign(result.global_shape.size(), 0);
  result.data = std::move(data);
  return result;
}

ShardedTensor part_of(const std::string& key, at::Tensor data, std::vector<int64_t> global_shape,
                      int64_t dim, int64_t index) {
  ShardedTensor result;
  result.key = key;
  result.global_offset.assign(global_shape.size(), 0);
  result.global_offset[static_cast<size_t>(dim)] = index * data.size(dim);
  result.global_shape = std::move(global_shape);
  result.data = std::move(data);
  return result;
}

std::string error_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    return text;
  }
  ADD_FAILURE() << "no Error was thrown";
  return {};
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

void write_file(const std::filesystem::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

std::vector<std::string> names_in(const std::filesystem::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace megatron
