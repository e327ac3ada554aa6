# The standard benchmark models, sourced by the scripts in this folder: our flags, the flags of
# megatron-core's benchmark for the same model, and the number of ranks (default 1), which divide the cores.
model_names=(tiny_fp32 tiny_bf16 gpt2_124m_fp32 gpt2_124m_bf16 llama_124m_fp32 llama_124m_bf16)
parallel_model_names=(tiny_tp2 tiny_pp2 tiny_dp2 tiny_dp2_distopt)
declare -A our_flags peer_flags model_ranks

_tiny="--num-layers 4 --hidden-size 256 --num-attention-heads 4 --seq-length 128 --micro-batch-size 4
  --vocab-size 8192 --attention-dropout 0 --hidden-dropout 0 --warmup-steps 5 --steps 30"
_gpt2="--num-layers 12 --hidden-size 768 --num-attention-heads 12 --seq-length 512 --micro-batch-size 2
  --vocab-size 50304 --attention-dropout 0 --hidden-dropout 0 --warmup-steps 2 --steps 6"
_llama="$_gpt2 --ffn-hidden-size 2048 --swiglu --normalization RMSNorm --disable-bias-linear
  --position-embedding-type rope --num-query-groups 4 --untie-embeddings-and-output-weights"
_peer_tiny="--layers 4 --hidden 256 --heads 4 --seq 128 --mbs 4 --vocab 8192 --warmup 5 --steps 30"
_peer_gpt2="--layers 12 --hidden 768 --heads 12 --seq 512 --mbs 2 --vocab 50304 --warmup 2 --steps 6"
_peer_llama="$_peer_gpt2 --style llama --ffn 2048 --query-groups 4"

our_flags[tiny_fp32]=$_tiny
our_flags[tiny_bf16]="$_tiny --bf16"
our_flags[gpt2_124m_fp32]=$_gpt2
our_flags[gpt2_124m_bf16]="$_gpt2 --bf16"
peer_flags[tiny_fp32]=$_peer_tiny
peer_flags[tiny_bf16]="$_peer_tiny --dtype bf16"
peer_flags[gpt2_124m_fp32]=$_peer_gpt2
peer_flags[gpt2_124m_bf16]="$_peer_gpt2 --dtype bf16"
our_flags[llama_124m_fp32]=$_llama
our_flags[llama_124m_bf16]="$_llama --bf16"
peer_flags[llama_124m_fp32]=$_peer_llama
peer_flags[llama_124m_bf16]="$_peer_llama --dtype bf16"

# fp32. PP runs 4 micro-batches, DP one micro-batch per rank.
for _name in "${parallel_model_names[@]}"; do model_ranks[$_name]=2; done
our_flags[tiny_tp2]="$_tiny --nproc 2 --tensor-model-parallel-size 2"
peer_flags[tiny_tp2]="$_peer_tiny --tp 2"
our_flags[tiny_pp2]="$_tiny --nproc 2 --pipeline-model-parallel-size 2 --global-batch-size 16"
peer_flags[tiny_pp2]="$_peer_tiny --pp 2 --microbatches 4"
our_flags[tiny_dp2]="$_tiny --nproc 2 --global-batch-size 8"
peer_flags[tiny_dp2]="$_peer_tiny --dp 2"
our_flags[tiny_dp2_distopt]="${our_flags[tiny_dp2]} --use-distributed-optimizer"
peer_flags[tiny_dp2_distopt]="${peer_flags[tiny_dp2]} --distopt"
