// Draws a schedule's timeline as a self-contained SVG: one row per stage, one box per step.
#pragma once

#include <string>
#include <vector>

#include "megatron/planner/timeline.h"

namespace megatron {

struct PictureText {
  std::string title;
  std::string unit;                 // label of the time axis
  std::vector<std::string> stages;  // second label of each row; may be empty
};

// Follows the reader's light or dark colour scheme; each box has a tooltip. Throws Error if the
// schedule has more than 50,000 steps.
std::string schedule_picture(const ScheduleTimeline& timeline, const PictureText& text);

}  // namespace megatron
