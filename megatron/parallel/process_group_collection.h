// The groups of a rank, passed down as a value instead of a global parallel state.
#pragma once

#include <memory>

#include "megatron/parallel/process_group.h"
#include "megatron/parallel/rank_grid.h"

namespace megatron {

using ProcessGroupPtr = std::shared_ptr<const ProcessGroup>;

struct ProcessGroupCollection {
  ProcessGroupPtr world;
  ProcessGroupPtr tp;        // tensor parallel
  ProcessGroupPtr pp;        // pipeline parallel
  ProcessGroupPtr cp;        // context parallel
  ProcessGroupPtr dp;        // data parallel
  ProcessGroupPtr dp_cp;     // data and context parallel: the ranks that reduce gradients
  ProcessGroupPtr tp_cp;     // tensor and context parallel
  ProcessGroupPtr tp_dp_cp;  // all ranks of one pipeline stage
  ProcessGroupPtr mp;        // tensor and pipeline parallel: one copy of the model
  ProcessGroupPtr embd;  // first and last pipeline stage (tied embeddings); null on other stages
  ProcessGroupPtr pos_embd;  // first pipeline stage; null on others
  ProcessGroupPtr ep;        // expert parallel
  ProcessGroupPtr expt_tp;   // tensor parallel of the experts
  ProcessGroupPtr tp_ep;     // expt_tp and ep
  ProcessGroupPtr tp_ep_pp;  // expt_tp, ep and pp: one copy of all experts
  ProcessGroupPtr expt_dp;   // data parallel of the experts

  // A world of one rank, without any backend.
  static ProcessGroupCollection single_rank();
};

}  // namespace megatron
