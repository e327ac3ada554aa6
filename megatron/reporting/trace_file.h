// A trace of libtorch's profiler (Chrome's format, for Perfetto or chrome://tracing), arranged so
// that communication is seen beside compute.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

namespace megatron {

// What the rows of a trace belong to. Threads go by the system's number (gettid).
struct TraceRanks {
  bool are_threads = false;               // of one process; otherwise it is the process of a rank
  std::set<int> ranks;                    // whose rows stay: one, where it is a process
  std::map<int64_t, int> rank_of_thread;  // every rank's own thread
  int64_t recorder = 0;                   // the thread that wrote the trace
  int64_t process = 0;                    // what other "processes" there are is GPUs and spans
};

// Rewrites the file in place. Ranges that do not nest with a thread's operators (collectives, the
// backward passes of layers) get rows of their own, as many as overlap; the process and the ranks'
// threads are named by rank, each thread once. Throws Error where the file is not such a trace.
void arrange_trace(const std::string& file, const TraceRanks& ranks);

}  // namespace megatron
