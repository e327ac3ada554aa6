// Flags of Megatron-LM for features that this version lacks, by feature.
#include "megatron/config/megatron_lm/megatron_lm_flags.h"

namespace megatron {

// NAME: no value, NAME=: one, NAME=3: three, NAME=*: all up to the next flag.
const std::vector<MegatronLmTheme>& absent_megatron_lm_themes() {
  static const std::vector<MegatronLmTheme> themes = {
      {"mixture of experts",
       R"(
ep-overlap-early-attn-memory-release expert-tensor-parallel-num-weight-shards=
gtp-expert-remat-nccl-ub high-priority-a2a-comm-stream inference-grouped-gemm-backend=
moe-combine-bwd-dtype= moe-deepep-num-sms= moe-dispatch-fwd-dtype= moe-enable-deepep
moe-enable-routing-replay moe-expert-rank-capacity-factor= moe-flex-dispatcher-backend=
moe-flex-dispatcher-num-sms= moe-hybridep-num-blocks-permute= moe-hybridep-num-blocks-unpermute=
moe-hybridep-num-sms-preprocessing= moe-hybridep-num-sms= moe-hybridep-pad-uneven-dispatch-inputs
moe-latent-size= moe-mlp-glu-interleave-size= moe-ncclep-static-shape moe-ncclep-zero-copy
moe-pad-experts-for-cuda-graph-inference moe-paged-stash moe-paged-stash-buffer-size-factor-cpu=
moe-paged-stash-buffer-size-factor-cuda= moe-paged-stash-page-size=
moe-permute-fusion-into-hybridep moe-router-force-biased= moe-router-quantile-balancing-ema=
moe-routing-trace-capture-hidden-states moe-routing-trace-capture-logits
moe-routing-trace-dump-weights moe-routing-trace-max-training-iters= moe-routing-trace-path=
moe-shared-expert-glu-interleave-size= moe-single-grouped-bias moe-single-grouped-weight
moe-token-dropping moe-use-grouped-tensor moe-use-legacy-grouped-gemm
overlap-dispatch-backward-with-experts-wgrad
rl-inference-expert-model-parallel-size= rl-inference-expert-tensor-model-parallel-size=
save-tokens-per-expert-interval= use-grouped-gemm-for-dense-mlp use-grouped-gemm-for-shared-expert
)"},
      {"FP8 and FP4",
       R"(
disable-fp8-wgrad fp4-format= fp4-param-gather fp4-quantizer-factory= fp4-recipe= fp8-interval=
fp8-output-proj fp8-param-gather fp8-quantizer-factory= keep-fp8-transpose-cache
keep-fp8-transpose-cache-when-using-custom-fsdp kitchen-attention-backend= kitchen-config-file=
kitchen-recipe-number= no-fp8-wgrad reuse-grad-buf-for-mxfp8-param-ag te-precision-config-file= use-kitchen-attention
)"},
      {"reinforcement learning",
       R"(
grpo-clamp-eps-lower= grpo-clamp-eps-upper= grpo-default-temperature= grpo-default-top-p=
grpo-entropy-term-weight= grpo-filter-groups-with-same-reward grpo-group-size= grpo-iterations=
grpo-kl-beta= grpo-prompts-per-step= langrl-env-config= langrl-external-server
langrl-inference-server-conversation-template= langrl-inference-server-type= perform-rl-step
refit-method= rl-calculate-intra-group-similarity rl-consumption-granularity=
rl-default-temperature= rl-default-top-k= rl-default-top-p= rl-durable-rollout-bank
rl-generation-batch-size= rl-generation-lag= rl-importance-sampling-truncation-coef=
rl-inference-logprobs-is-correction rl-inference-model-unified-memory-level=
rl-inference-parsers=* rl-inference-pipeline-model-parallel-size=
rl-inference-tensor-model-parallel-size= rl-kv-cache-management-mode= rl-max-inflight-requests=
rl-num-parallel-generation-batches= rl-num-parallel-generations=
rl-offload-inference-model-weights-when-idle rl-offload-kv-cache-during-training
rl-offload-optimizer-during-inference rl-parallel-generation-tasks= rl-partial-rollouts
rl-persist-cuda-graphs rl-profile rl-profile-dir= rl-prompts-per-eval=
rl-remove-kv-cache-during-training rl-reset-cuda-graphs rl-rollout-bank-dir=
rl-rollout-bank-max-bytes= rl-sequence-packing-algo= rl-sequence-packing-bin-size=
rl-sequence-packing-max-sequences-per-bin= rl-skip-bos-token rl-submission-granularity=
rl-training-cuda-graphs rl-use-sequence-packing rl-verify-model-weights-swap
)"},
      {"inference servers and their settings",
       R"(
decode-only-cuda-graphs disable-chunked-prefill enable-chunked-prefill flash-decode
indexer-batch-size= indexer-log-interval= inference-batch-times-seqlen-threshold=
inference-coordinator-port= inference-cuda-graph-all-prefills inference-cuda-graph-max-tokens=
inference-cuda-graph-scope= inference-disable-ep-consensus inference-disable-triton-nvls-kernels
inference-dynamic-batching inference-dynamic-batching-async-sched-mode=
inference-dynamic-batching-buffer-guaranteed-fraction=
inference-dynamic-batching-buffer-overflow-factor=
inference-dynamic-batching-cuda-graph-max-tokens=
inference-dynamic-batching-cuda-graph-mixed-prefill-count=
inference-dynamic-batching-cuda-graph-sizing-distribution=
inference-dynamic-batching-logprobs-mode= inference-dynamic-batching-mamba-memory-ratio=
inference-dynamic-batching-max-requests-override=
inference-dynamic-batching-max-tokens-override=
inference-dynamic-batching-num-cuda-graphs= inference-dynamic-batching-paused-buffer-size-gb=
inference-dynamic-batching-prefix-caching-coordinator-policy=
inference-dynamic-batching-prefix-caching-eviction-policy=
inference-dynamic-batching-prefix-caching-mamba-gb=
inference-dynamic-batching-prefix-caching-routing-alpha=
inference-dynamic-batching-sampling-backend=
inference-dynamic-batching-track-generated-token-events
inference-dynamic-batching-track-paused-request-events
inference-dynamic-batching-unified-memory-level= inference-flask-server-logging
inference-fuse-tp-communication inference-logging-step-interval= inference-max-batch-size=
inference-max-requests= inference-max-seq-length= inference-moe-disable-fused-quant-kernels
inference-moe-token-dispatcher-type= inference-shards= inference-text-gen-server-logging
inference-use-synchronous-zmq-collectives inference-wandb-logging
inference-wandb-logging-step-interval= mamba-inference-conv-states-dtype=
mamba-inference-ssm-states-dtype= max-tokens-to-oom= mlp-chunks-for-prefill=
mlp-chunks-for-training= nccl-all-reduce-for-prefill symmetric-ar-type=
use-legacy-static-engine
)"},
      {"Mamba, linear attention and hybrid models",
       R"(
disable-mamba-mem-eff-path gdp-cutedsl-kernel gdp-num-chunk-states-to-recompute=
gdp-num-householder= hybrid-attention-ratio= hybrid-layer-pattern= hybrid-mlp-ratio=
hybrid-override-pattern= is-hybrid-model linear-attention-freq= linear-conv-kernel-dim=
linear-key-head-dim= linear-num-key-heads= linear-num-value-heads= linear-value-head-dim=
mamba-head-dim= mamba-num-groups= mamba-num-heads= mamba-state-dim=
mamba-training-ssm-states-dtype= mtp-hybrid-override-pattern= spec=*
)"},
      {"sparse attention",
       R"(
dsa-indexer-head-dim= dsa-indexer-k-norm-epsilon= dsa-indexer-k-norm-fp32
dsa-indexer-loss-coeff= dsa-indexer-n-heads= dsa-indexer-rope-interleaved
dsa-indexer-skip-topk-offset= dsa-indexer-topk= dsa-indexer-topk-freq=
dsa-indexer-use-sparse-loss dsa-kernel-backend= experimental-attention-variant=
)"},
      {"hyper-connections",
       R"(
enable-mhc-connections mhc-init-gating-factor= mhc-num-residual-streams=
mhc-recompute-layer-num= mhc-sinkhorn-iterations=
)"},
      {"BERT, T5 and retrieval",
       R"(
bert-embedder-type= bert-load= bert-no-binary-head biencoder-projection-dim=
biencoder-shared-query-context-model block-data-path= decoder-num-layers= decoder-seq-length=
embedding-path= evidence-data-path= ict-head-size= ict-load= mask-factor= mask-prob= mask-type=
output-bert-embeddings pipeline-model-parallel-split-rank= pretrained-checkpoint=
query-in-block-prob= relative-attention-max-distance= relative-attention-num-buckets=
result-rejected-tracker-filename= retriever-report-topk-accuracies=* retriever-score-scaling
retriever-seq-length= retro-add-retriever retro-attention-gate= retro-cyclic-train-iters=
retro-encoder-attention-dropout= retro-encoder-hidden-dropout= retro-encoder-layers=
retro-no-verify-neighbor-count retro-num-neighbors= retro-num-retrieved-chunks=
retro-project-dir= sample-rate= short-seq-prob= standalone-embedding-stage titles-data-path=
use-one-sent-docs vocab-extra-ids=
)"},
      {"vision",
       R"(
classes-fraction= data-per-class-fraction= dino-bottleneck-size= dino-freeze-last-layer=
dino-head-hidden-size= dino-local-crops-number= dino-local-img-size= dino-norm-last-layer
dino-teacher-temp= dino-warmup-teacher-temp= dino-warmup-teacher-temp-epochs= freeze-all-layers
head-lr-mult= img-h= img-w= iter-per-epoch= no-data-sharding num-channels= num-classes=
patch-dim= swin-backbone-type= vision-backbone-type= vision-pretraining vision-pretraining-type=
)"},
      {"supervised fine-tuning on conversations",
       R"(
allow-ambiguous-pad-tokens chat-template= sft sft-tokenizer-prompt-format=
)"},
      {"fill-in-the-middle",
       R"(
fim-data fim-eod-token= fim-fragment-rate= fim-middle-token= fim-no-prefix= fim-pad-token=
fim-prefix-token= fim-rate= fim-split-sample= fim-spm-rate= fim-suffix-token=
)"},
      {"distillation",
       R"(
logits-load-decode-threads= logits-load-dir= logits-load-ignore-errors
logits-load-kd-loss-alpha= logits-load-msc-prefetch-depth= logits-load-prefetch-factor=
logits-save-dir= logits-save-dtype= logits-save-top-k= logits-save-top-p=
logits-save-top-p-min-k= output-logit-dtype=
)"},
      {"host memory offloading",
       R"(
activation-offload-fraction= cpu-offloading-num-layers= cpu-offloading-retain-pinned-cpu-buffers
delay-offload-until-cuda-graph delta-offload-bytes-across-pp-ranks=
fine-grained-activation-offloading fine-grained-offloading-max-inflight-offloads=
min-offloaded-tensor-size= no-pin-cpu-grads no-pin-cpu-params offload-modules=*
optimizer-cpu-offload optimizer-offload-fraction= overlap-cpu-optimizer-d2h-h2d
use-torch-optimizer-for-cpu-offload
)"},
      {"other checkpoint options",
       R"(
async-ckpt-cpu-priority= async-ckpt-io-priority= async-ckpt-use-cpu-shm async-save
async-strategy= check-weight-hash-across-dp-replicas-interval= ckpt-assume-constant-structure
ckpt-convert-format= ckpt-convert-save= ckpt-convert-update-legacy-dist-opt-format
ckpt-drop-redundant-extra-state ckpt-fully-parallel-load ckpt-fully-parallel-load-exchange-algo=
ckpt-fully-parallel-load-per-rank-objects ckpt-fully-parallel-load-process-group=
ckpt-fully-parallel-save-process-group= ckpt-pg-tensors-cache-create ckpt-pg-tensors-cache-path=
ckpt-step= disable-ckpt-fully-parallel-save disable-ckpt-load-validate-sharding-integrity
disable-save-tokenizer-assets disable-stream-ckpt-dequant disable-strict-fsdp-dtensor-load
disable-use-tokenizer-model-from-checkpoint-args dist-ckpt-save-pre-mcore-014
dist-ckpt-strictness= dist-ckpt-workers= distrib-optim-fully-reshardable-mem-efficient
init-model-with-meta-device load-main-params-from-ckpt load-model-opt-format
no-ckpt-fully-parallel-save no-ckpt-load-validate-sharding-integrity no-save-tokenizer-assets
no-stream-ckpt-dequant no-strict-fsdp-dtensor-load no-use-tokenizer-model-from-checkpoint-args
non-persistent-ckpt-type= non-persistent-global-ckpt-dir= non-persistent-local-ckpt-algo=
non-persistent-local-ckpt-dir= non-persistent-save-interval= object-storage-cache-path=
override-ckpt-iteration= replication replication-factor= replication-jump= s3-cache-path=
save-retain-interval= use-checkpoint-args use-checkpoint-opt-param-scheduler
use-checkpoint-opt_param-scheduler use-mp-args-from-checkpoint-args use-persistent-ckpt-worker
verify-integrity
)"},
      {"fault tolerance and health checks",
       R"(
adlr-autoresume adlr-autoresume-interval= app-tag-run-name= app-tag-run-version=
calc-ft-timeouts check-for-large-grads check-for-spiky-loss
disable-flight-recorder-dump-on-timeout disable-flight-recorder-extra-dump-on-exec
disable-flight-recorder-include-only-active disable-straggler-on-startup
distributed-timeout-seconds-after-init= enable-ft-package enable-one-logger
error-injection-rate= error-injection-type= exit-signal= exit-signal-handler-for-dataloader
exit-signal-handler-for-training flight-recorder-dump-path= flight-recorder-include-stack-trace
flight-recorder-trace-buffer-size= ft-num-warmup-iters= gpu-sniff-test-interval=
inprocess-active-world-size= inprocess-barrier-timeout= inprocess-completion-timeout=
inprocess-empty-cuda-cache inprocess-granularity= inprocess-hard-timeout=
inprocess-heartbeat-interval= inprocess-heartbeat-timeout= inprocess-last-call-wait=
inprocess-max-iterations= inprocess-monitor-process-interval= inprocess-monitor-thread-interval=
inprocess-progress-watchdog-interval= inprocess-restart inprocess-soft-timeout=
inprocess-termination-grace-time= log-straggler no-flight-recorder-dump-on-timeout
no-flight-recorder-extra-dump-on-exec no-flight-recorder-include-only-active one-logger-async
one-logger-entity= one-logger-project= one-logger-run-name= otel-enabled otel-service-name=
otel-span-groups= rerun-mode= run-workload-inspector-server straggler-ctrlr-port=
straggler-minmax-count= suggested-communication-unit-size=
)"},
      {"CUDA graphs",
       R"(
cuda-graph-modules=* cuda-graph-scope=* cuda-graph-warmup-steps= enable-cuda-graph
external-cuda-graph optimizer-cuda-graph
)"},
      {"other logging",
       R"(
config-logger-dir= dump-param-to-param-group-map=
log-device-memory-used log-energy log-max-attention-logit log-memory-interval=
log-num-zeros-in-grad log-params-norm log-progress log-world-size-to-tensorboard logging-level=
memory-snapshot-path= no-barrier-with-level-1-timing no-log-learnig-rate-to-tensorboard
pytorch-profiler-collect-callstack pytorch-profiler-collect-chakra
pytorch-profiler-collect-shapes record-memory-history save-activations-interval=
save-dgrads-interval= save-params-interval= save-wgrads-interval= tensorboard-log-interval=
)"},
      {"other datasets",
       R"(
dataloader-defer-npy-index-mmap dataloader-fast-cache-load
dataloader-inter-document-masking enable-msc eval-global-batch-size= eval-micro-batch-size=
full-validation iterations-to-skip=* max-seqlen-per-dp-cp-rank= mid-level-dataset-surplus=
multiple-validation-sets per-dataset-sequences-path=
phase-transition-iterations= renormalize-blend-weights reset-attention-mask reset-position-ids
skip-train start-eval-at-iter= train-sync-interval= validation-set-names=*
)"},
      {"other tokenizers",
       R"(
disable-tokenizer-sentencepiece-ignore-extra-whitespaces legacy-tokenizer
no-tokenizer-sentencepiece-ignore-extra-whitespaces null-tokenizer-eod-id=
null-tokenizer-pad-id= padded-vocab-size= tokenizer-hf-no-use-fast tokenizer-metadata=
tokenizer-sentencepiece-legacy use-gigatoken
)"},
      {"variable batch sizes",
       R"(
step-batch-size-schedule=
)"},
      {"other optimizers and schedules",
       R"(
apply-wd-to-qk-layernorm delay-param-gather lion-beta1=
lion-beta2= muon-coefficient-type= muon-extra-scale-factor= muon-fp32-matmul-prec=
muon-momentum= muon-nesterov muon-no-split-qkv muon-num-ns-steps= muon-scalar-optimizer=
muon-scale-mode= muon-tp-mode= muon-use-nesterov muon-use-syrk mup-width-mult=
no-use-layer-wise-param-layout no-weight-decay-cond-type= use-precision-aware-optimizer
)"},
      {"other process groups and communication",
       R"(
align-param-gather create-all-gather-group data-parallel-random-init ddp-average-in-collective
ddp-param-name-patterns-for-fp32-local-accumulation=*
ddp-reduce-scatter-with-fp32-accumulation  disable-align-grad-reduce
disable-async-tensor-model-parallel-allreduce disable-clone-scatter-output-in-embedding
disable-gloo-process-groups disable-symmetric-registration disable-tp-comm-bulk-dgrad
disable-tp-comm-bulk-wgrad disable-tp-comm-overlap-ag disable-tp-comm-overlap-rs
disable-tp-comm-split-ag disable-tp-comm-split-rs distribute-saved-activations
enable-full-sharding-in-hsdp encoder-pipeline-model-parallel-size=
encoder-tensor-model-parallel-size= fake-process-group fsdp-db-use-persist-buf-on-alloc-fail
fsdp-double-buffer fsdp-manual-registration gtp-remat-nccl-ub gtp-remat-opt-in-modules=*
gtp-remat-reduce-scatter-with-fp32-accumulation hierarchical-context-parallel-sizes=*
high-priority-stream-groups=* hybrid-context-parallel initialize-socket-comms
megatron-fsdp-enable-fine-grained-param-gather megatron-fsdp-grad-comm-dtype=
megatron-fsdp-main-grads-dtype= megatron-fsdp-main-params-dtype=
megatron-fsdp-max-pool-double-buffer megatron-fsdp-version= nccl-communicator-config-path=
no-align-grad-reduce no-align-param-gather no-async-tensor-model-parallel-allreduce
no-clone-scatter-output-in-embedding no-delay-grad-reduce no-gradient-reduce-div-fusion
no-scatter-gather-tensors-in-pipeline no-tp-comm-bulk-dgrad no-tp-comm-bulk-wgrad
no-tp-comm-overlap-ag no-tp-comm-overlap-rs no-tp-comm-split-ag no-tp-comm-split-rs
num-distributed-optimizer-instances= outer-dp-sharding-strategy=
overlap-p2p-communication-warmup-flush pipeline-model-parallel-comm-backend=
sharp-enabled-group= tensor-parallel-num-weight-shards=
tp-comm-bootstrap-backend= tp-comm-overlap-rs-dgrad use-nccl-ub
use-ring-exchange-p2p use-same-sampling-seed-across-dp-ranks use-sharp use-tp-pp-dp-mapping
)"},
      {"selection of individual kernels",
       R"(
batch-invariant-backend= batch-invariant-mode disable-bf16-reduced-precision-matmul
flash-attention-version= fused-residual-rmsnorm mla-down-proj-fusion
no-bias-dropout-fusion no-bias-swiglu-fusion no-gradient-accumulation-fusion
no-persist-layer-norm no-rope-fusion onnx-safe= use-fused-weighted-squared-relu
use-legacy-models use-te-activation-func
)"},
      {"other models and initializations",
       R"(
disable-dsa-indexer-rotate-activation disable-dsa-indexer-scoring-relu enable-experimental
heterogeneous-layers-config-encoded-json= heterogeneous-layers-config-path=
init-method-xavier-uniform mtp-hsm mtp-standalone no-dsa-indexer-rotate-activation
no-dsa-indexer-scoring-relu no-initialization test-mode
)"},
  };
  return themes;
}

}  // namespace megatron
