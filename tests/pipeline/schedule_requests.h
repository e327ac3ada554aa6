// Enumerates schedule requests for tests.
#pragma once

#include <set>
#include <string>

#include <fmt/format.h>

#include "megatron/pipeline/schedule.h"

namespace megatron {

// Calls `visit` with every valid request of up to 8 stages, 4 chunks and 32 micro-batches, plain and
// combined.
template <typename Visit>
void for_all_requests(const Visit& visit) {
  for (int stages = 1; stages <= 8; ++stages) {
    for (int chunks = 1; chunks <= (stages == 1 ? 1 : 4); ++chunks) {
      for (int64_t microbatches = 1; microbatches <= 32; ++microbatches) {
        const auto visit_both = [&](ScheduleRequest request) {
          for (const bool combined : {false, true}) {
            request.combined = combined;
            visit(request);
          }
        };
        visit_both({.stages = stages, .chunks = chunks, .microbatches = microbatches});
        if (chunks == 1) continue;
        for (const int64_t group :
             std::set<int64_t>{stages, stages + 1, 2 * stages, microbatches}) {
          const int64_t rest = microbatches % group;
          if (group < stages || group > microbatches || (rest > 0 && rest < stages)) continue;
          visit_both(
              {.stages = stages, .chunks = chunks, .microbatches = microbatches, .group = group});
        }
      }
    }
  }
}

inline std::string name_of(const ScheduleRequest& request) {
  return fmt::format("{} stages, {} chunks, {} micro-batches, groups of {}{}", request.stages,
                     request.chunks, request.microbatches, request.group.value_or(request.stages),
                     request.combined ? ", combined" : "");
}

}  // namespace megatron
