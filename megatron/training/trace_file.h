// A trace of libtorch's profiler (Chrome's format, for Perfetto or chrome://tracing), arranged so
// that communication is seen beside compute.
#pragma once

#include <set>
#include <string>

namespace megatron {

// What the rows of a trace belong to.
struct TraceRanks {
  // Ranks as threads, each named by kRankThreadName: the ranks whose rows stay.
  bool are_threads = false;
  std::set<int> ranks;  // otherwise the one rank of the process
};

// Rewrites the file in place. The ranges of collectives, which the profiler puts among the
// operators that run at the same time, get rows of their own under their thread's, as many as
// overlap; the process and its threads are named by rank. Throws Error where the file is not such a
// trace.
void arrange_trace(const std::string& file, const TraceRanks& ranks);

}  // namespace megatron
