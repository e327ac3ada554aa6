#include "megatron/checkpoint/checkpoint_directory.h"

#include <algorithm>
#include <charconv>
#include <random>
#include <regex>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/formats/file_io.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;

constexpr const char* kReplacedSuffix = ".replaced";

std::optional<int64_t> parse_iteration(std::string_view digits) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (digits.empty() || error != std::errc() || end != digits.data() + digits.size() || value < 0) {
    return std::nullopt;
  }
  return value;
}

// The iteration of "iter_0000123"; empty for other names.
std::optional<int64_t> iteration_of(std::string_view name) {
  constexpr std::string_view prefix = "iter_";
  if (!name.starts_with(prefix)) return std::nullopt;
  const auto iteration = parse_iteration(name.substr(prefix.size()));
  return iteration && iteration_directory_name(*iteration) == name ? iteration : std::nullopt;
}

// The end of an error message: the iterations that exist.
std::string list_stored(const fs::path& root) {
  const auto iterations = stored_iterations(root);
  if (iterations.empty()) return "it holds no checkpoint; give the directory of --save";
  return fmt::format("it holds iterations {}", fmt::join(iterations, ", "));
}

std::vector<fs::path> entries_of(const fs::path& directory) {
  std::vector<fs::path> result;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    result.push_back(it->path());
  }
  std::sort(result.begin(), result.end());
  return result;
}

// The directory of an iteration, also if a crash between the two renames of publish_directory()
// left it under the other name.
fs::path directory_of_iteration(const fs::path& root, int64_t iteration) {
  const fs::path place = root / iteration_directory_name(iteration);
  fs::path aside = place;
  aside += kReplacedSuffix;
  return !fs::exists(place) && fs::is_directory(aside) ? aside : place;
}

}  // namespace

std::string iteration_directory_name(int64_t iteration) {
  return fmt::format("iter_{:07d}", iteration);
}

std::string shard_file_name(int rank, int world_size) {
  return fmt::format("shard-{:05d}-of-{:05d}.safetensors", rank, world_size);
}

bool is_same_folder(const fs::path& left, const fs::path& right) {
  if (left.empty() || right.empty()) return false;
  const auto real_path = [](const fs::path& path) {
    const fs::path real = fs::weakly_canonical(fs::absolute(path));
    return real.has_filename() ? real : real.parent_path();  // without the trailing slash
  };
  return real_path(left) == real_path(right);
}

std::optional<int64_t> latest_iteration(const fs::path& root) {
  const fs::path tracker = root / kTrackerFile;
  if (!fs::exists(tracker)) return std::nullopt;
  std::string text = read_text_file(tracker);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) {
    text.pop_back();
  }
  const auto iteration = parse_iteration(text);
  check(iteration.has_value(), "Expected an iteration number in {}, but got '{}'; {}",
        tracker.string(), text.substr(0, 40), list_stored(root));
  return iteration;
}

std::vector<int64_t> stored_iterations(const fs::path& root) {
  std::vector<int64_t> result;
  for (const auto& entry : entries_of(root)) {
    const auto iteration = iteration_of(entry.filename().string());
    if (iteration && fs::exists(entry / kIndexFile)) result.push_back(*iteration);
  }
  std::sort(result.begin(), result.end());
  return result;
}

fs::path find_checkpoint(const fs::path& path, std::optional<int64_t> iteration) {
  check(fs::is_directory(path), "Expected a checkpoint directory {}, but there is none",
        path.string());
  const fs::path normal = fs::path(path / "").lexically_normal().parent_path();
  if (!iteration && (fs::exists(path / kIndexFile) || iteration_of(normal.filename().string()))) {
    check(fs::exists(path / kIndexFile), "Expected {} in {}, but there is none{}", kIndexFile,
          path.string(),
          fs::exists(path / "metadata.json") ? "; it looks like a checkpoint of Megatron-LM" : "");
    return normal;
  }
  const bool follow = !iteration;
  if (follow) {
    iteration = latest_iteration(path);
    check(iteration.has_value(), "Expected {} in {}, but there is none; {}", kTrackerFile,
          path.string(), list_stored(path));
  }
  const fs::path place = directory_of_iteration(path, *iteration);
  check(fs::exists(place / kIndexFile), "Expected a checkpoint of iteration {}{} in {}, but {}; {}",
        *iteration, follow ? fmt::format(" (from {})", kTrackerFile) : "", path.string(),
        fs::is_directory(place) ? fmt::format("{} has no {}", place.filename().string(), kIndexFile)
                                : fmt::format("there is no {}", place.filename().string()),
        list_stored(path));
  return place;
}

void clean_interrupted_saves(const fs::path& root) {
  static const std::regex temporary_pattern(R"(iter_\d{7,}\.tmp-[0-9a-f]{8})");
  for (const auto& entry : entries_of(root)) {
    const std::string name = entry.filename().string();
    if (std::regex_match(name, temporary_pattern)) {
      fs::remove_all(entry);
    } else if (entry.extension() == kReplacedSuffix && iteration_of(entry.stem().string())) {
      const fs::path place = root / entry.stem();
      if (fs::exists(place)) {
        fs::remove_all(entry);
      } else {
        rename_path(entry, place);
      }
    }
  }
}

fs::path make_temporary_directory(const fs::path& root, int64_t iteration) {
  std::error_code error;
  fs::create_directories(root, error);
  check(!error && fs::is_directory(root), "Expected to create the directory {}, but got: {}",
        root.string(), error ? error.message() : "a file of that name exists");
  // A unique name: ranks of a killed run may still be writing to the old one.
  const fs::path temporary =
      root /
      fmt::format("{}.tmp-{:08x}", iteration_directory_name(iteration), std::random_device{}());
  check(fs::create_directory(temporary, error), "Expected to create the directory {}, but got: {}",
        temporary.string(), error ? error.message() : "it exists already");
  return temporary;
}

void publish_directory(const fs::path& root, int64_t iteration, const fs::path& temporary) {
  const fs::path place = root / iteration_directory_name(iteration);
  fs::path aside = place;
  aside += kReplacedSuffix;
  sync_directory(temporary);
  const bool replaces = fs::exists(place);
  if (replaces) {
    rename_path(place, aside);
    sync_directory(root);
  }
  try {
    rename_path(temporary, place);
  } catch (const Error&) {
    if (replaces) rename_path(aside, place);
    throw;
  }
  sync_directory(root);
  if (replaces) {
    std::error_code ignored;  // the next save removes leftovers
    fs::remove_all(aside, ignored);
  }
}

void write_tracker(const fs::path& root, int64_t iteration) {
  replace_file_durably(root / kTrackerFile, fmt::format("{}", iteration));
}

}  // namespace megatron
