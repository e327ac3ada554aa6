// Removes the steps that a resumed run repeats from the TensorBoard files of its earlier starts.
#pragma once

#include <cstdint>
#include <string>

namespace megatron {

// Removes the scalars of TensorBoardWriter's tags after iteration `first_iteration` (tags
// "... vs samples": after sample `first_consumed_samples`) from the event files in `folder`. They
// are appended to files whose name has "superseded" in place of "tfevents", which TensorBoard does
// not read. Other records, and files that another process is writing, stay. Returns the number of
// records removed; 0 if the folder does not exist. Throws Error if a file cannot be written.
int64_t cut_event_files(const std::string& folder, int64_t first_iteration,
                        int64_t first_consumed_samples);

}  // namespace megatron
