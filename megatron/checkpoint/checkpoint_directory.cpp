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

// What to write after "but ...": where else there are checkpoints.
std::string list_stored(const fs::path& root) {
  const auto iterations = stored_iterations(root);
  if (iterations.empty())
    return "no iteration is stored there; the folder that --save was given works";
  return fmt::format("stored are iterations {}", fmt::join(iterations, ", "));
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

// The folder of an iteration, also where a crash between the two renames of publish_directory left
// it.
fs::path place_of_iteration(const fs::path& root, int64_t iteration) {
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
  check(fs::is_directory(path), "Expected a checkpoint folder {}, but there is none",
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
  const fs::path place = place_of_iteration(path, *iteration);
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
  check(!error && fs::is_directory(root), "Expected to create the folder {}, but got: {}",
        root.string(), error ? error.message() : "a file of that name exists");
  // A name of its own keeps out late writers of a run that was killed.
  const fs::path temporary =
      root /
      fmt::format("{}.tmp-{:08x}", iteration_directory_name(iteration), std::random_device{}());
  check(fs::create_directory(temporary, error), "Expected to create the folder {}, but got: {}",
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
    std::error_code ignored;  // what stays behind is removed at the next save
    fs::remove_all(aside, ignored);
  }
}

void write_tracker(const fs::path& root, int64_t iteration) {
  replace_file_durably(root / kTrackerFile, fmt::format("{}", iteration));
}

}  // namespace megatron
