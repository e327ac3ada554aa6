// Rearranges a trace of libtorch's profiler (Chrome trace format, for Perfetto or chrome://tracing)
// so that communication has rows next to compute.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

namespace megatron {

// The ranks of a trace. Threads are identified by gettid().
struct TraceRanks {
  bool are_threads = false;               // ranks are threads of this process; else it is one rank
  std::set<int> ranks;                    // ranks whose rows are kept
  std::map<int64_t, int> rank_of_thread;  // the main thread of each rank
  int64_t recorder = 0;                   // the thread that wrote the trace
  int64_t process = 0;                    // other "processes" in the trace are GPUs and spans
};

// Rewrites the file in place. Ranges that do not nest with a thread's operators (collectives,
// backward passes of layers) move to separate rows, one per overlapping range. The process and the
// ranks' threads are named by rank, each thread once. Throws Error if the file is not such a trace.
void arrange_trace(const std::string& file, const TraceRanks& ranks);

}  // namespace megatron
