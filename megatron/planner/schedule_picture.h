// A timeline of a schedule as an SVG file of its own: a row a stage, a box a step.
#pragma once

#include <string>
#include <vector>

#include "megatron/planner/timeline.h"

namespace megatron {

struct PictureText {
  std::string title;
  std::string unit;                 // of time, below the axis
  std::vector<std::string> stages;  // what stands below the rank's name, by stage; may be empty
};

// It follows the reader's light or dark colours, and names each step where the pointer rests.
// Throws Error for a schedule of more steps than a picture can show.
std::string schedule_picture(const ScheduleTimeline& timeline, const PictureText& text);

}  // namespace megatron
