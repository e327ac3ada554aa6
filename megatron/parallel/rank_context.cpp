// Creates a rank's groups, in the same order on every rank so that creation cannot deadlock.
#include "megatron/parallel/rank_context.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "megatron/base/error.h"
#include "megatron/parallel/pipeline_links.h"

namespace megatron {

ProcessGroupCollection ProcessGroupCollection::single_rank() {
  return RankContext{}.make_groups(ParallelSizes{});
}

ProcessGroupCollection RankContext::make_groups(const ParallelSizes& sizes) const {
  check_world_size(sizes, world_size);
  const RankGrid grid(sizes);
  std::map<std::vector<int>, c10::intrusive_ptr<c10d::Backend>> backends;

  // Calls `make` for the ranks of a group; a failure names the group.
  const auto create = [&](const std::string& name, const std::vector<int>& members,
                          const auto& make) {
    try {
      return make();
    } catch (const std::exception& error) {
      const std::string text = error.what();
      throw CommunicationError(
          transport_failure_kind(error),
          fmt::format("creating group {} (ranks [{}]) failed on rank {}: {}; another rank has "
                      "ended or hangs, or needs more than --distributed-timeout-minutes",
                      name, fmt::join(members, ", "), rank, text.substr(0, text.find('\n'))));
    }
  };
  // The links that start or end at this rank, where the transport creates any.
  const auto make_links = [&](const std::string& group, const std::vector<int>& members,
                              const std::vector<MessageLink>& links) {
    LinkBackends own;
    for (const MessageLink& link : links) {
      const std::vector<int> ends = {members[link.source], members[link.destination]};
      if (std::ranges::find(ends, rank) == ends.end()) continue;
      const std::string name =
          fmt::format("{}_{}_to_{}_tag_{}", group, link.source, link.destination, link.tag);
      if (auto backend = create(name, ends, [&] { return transport->make_link(name, ends); }))
        own[link] = std::move(backend);
    }
    return own;
  };
  const auto make_group = [&](const std::string& name, const RankLists& groups,
                              std::vector<MessageLink> (*links_of)(int) =
                                  nullptr) -> ProcessGroupPtr {
    for (const auto& members : groups) {
      if (std::find(members.begin(), members.end(), rank) == members.end()) continue;
      c10::intrusive_ptr<c10d::Backend> backend;
      LinkBackends links;
      if (members.size() > 1) {
        auto& known = backends[members];
        if (!known)
          known = create(name, members, [&] { return transport->make_backend(name, members); });
        backend = known;
        if (links_of) links = make_links(name, members, links_of(int(members.size())));
      }
      return std::make_shared<ProcessGroup>(name, members, rank, backend, timeout, device,
                                            std::move(links));
    }
    return nullptr;
  };

  std::vector<int> everyone(world_size);
  std::iota(everyone.begin(), everyone.end(), 0);
  ProcessGroupCollection groups;
  groups.world = make_group("world", {everyone});
  groups.dp = make_group("dp", grid.get_ranks("dp"));
  groups.dp_cp = make_group("dp_cp", grid.get_ranks("dp-cp"));
  groups.cp = make_group("cp", grid.get_ranks("cp"));
  groups.mp = make_group("mp", grid.get_ranks("tp-pp"));
  groups.tp = make_group("tp", grid.get_ranks("tp"));
  groups.pp = make_group("pp", grid.get_ranks("pp"), &pipeline_links);
  groups.embd = make_group("embd", grid.embedding_ranks());
  groups.pos_embd = make_group("pos_embd", grid.position_embedding_ranks());
  groups.tp_cp = make_group("tp_cp", grid.get_ranks("tp-cp"));
  groups.tp_dp_cp = make_group("tp_dp_cp", grid.get_ranks("tp-dp-cp"));
  groups.ep = make_group("ep", grid.get_expert_ranks("ep"));
  groups.expt_tp = make_group("expt_tp", grid.get_expert_ranks("tp"));
  groups.tp_ep = make_group("tp_ep", grid.get_expert_ranks("tp-ep"));
  groups.tp_ep_pp = make_group("tp_ep_pp", grid.get_expert_ranks("tp-ep-pp"));
  groups.expt_dp = make_group("expt_dp", grid.get_expert_ranks("dp"));
  return groups;
}

}  // namespace megatron
