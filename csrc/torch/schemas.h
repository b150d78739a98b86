// The operators' schemas, the same in every namespace that holds an implementation of them.
//
// Defined in C++, since a call to one defined in Python costs four times as much; positional only,
// since torch.library's autograd and vmap refuse keyword-only tensors.
//
// `fusionops/ops/` holds the public functions over these, their fakes and their gradients.
#pragma once

namespace fusionops::torch_face {

template <class Library>
void define_operators(Library& m) {
  // x [B, N, D] -> [B, N]
  m.def("inverse_norm(Tensor x, float eps) -> Tensor");
  // user [B, U, D], item [B, P, D], scales [B, U] and [B, P] -> [B, U, P] of `dtype`, or item's
  m.def(
      "fusion_matrix(Tensor user, Tensor item, Tensor? user_scale, Tensor? item_scale, "
      "ScalarType? dtype) -> Tensor");
  // left [B, K, M], right [B, K, N], scale [B, K] -> [B, M, N] of `dtype`, or right's
  m.def("fusion_contract(Tensor left, Tensor right, Tensor? scale, ScalarType? dtype) -> Tensor");
  // user [U, D], item [P, D], scales and bias [U], [P], [P], ragged lists -> [U, k], [U, k]
  m.def(
      "fusion_topk(Tensor user, Tensor item, SymInt k, Tensor? user_scale, Tensor? item_scale, "
      "Tensor? item_bias, Tensor? exclude_offsets, Tensor? exclude_indices, Tensor? allowed, "
      "Tensor? candidate_offsets, Tensor? candidate_indices) -> (Tensor, Tensor)");
  // The same two for CUDA tensors of float32, which may be rounded to tf32: PyTorch's setting,
  // which the stable ABI does not show, decides in Python which is called
  m.def(
      "fusion_matrix_tf32(Tensor user, Tensor item, Tensor? user_scale, Tensor? item_scale, "
      "ScalarType? dtype) -> Tensor");
  m.def(
      "fusion_topk_tf32(Tensor user, Tensor item, SymInt k, Tensor? user_scale, "
      "Tensor? item_scale, Tensor? item_bias, Tensor? exclude_offsets, Tensor? exclude_indices, "
      "Tensor? allowed, Tensor? candidate_offsets, Tensor? candidate_indices) "
      "-> (Tensor, Tensor)");
  // -> the sums over chosen pairs: [U, D], [P, D], [P], in the accumulation type
  m.def(
      "fusion_topk_backward(Tensor grad, Tensor indices, Tensor user, Tensor item, "
      "Tensor? user_scale, Tensor? item_scale) -> (Tensor, Tensor, Tensor)");
  // user [U, D], item [P, D], target [U], scales and bias [U], [P], [P], ragged lists -> loss [U]
  // and statistics [2, U], peak and total: log-sum-exp = peak + log(total). skip_below is a matter
  // of the backward: tiles with every softmax below it are left out there
  m.def(
      "fusion_cross_entropy(Tensor user, Tensor item, Tensor target, Tensor? user_scale, "
      "Tensor? item_scale, Tensor? item_bias, Tensor? exclude_offsets, Tensor? exclude_indices, "
      "float label_smoothing, int ignore_index, float skip_below) -> (Tensor, Tensor)");
  // -> the gradients of user, item, user_scale [U], item_scale [P] and item_bias [P]; those that
  // `wanted` (users and their scale, items and theirs, biases) does not ask for are empty
  m.def(
      "fusion_cross_entropy_backward(Tensor grad, Tensor statistics, Tensor user, Tensor item, "
      "Tensor target, Tensor? user_scale, Tensor? item_scale, Tensor? item_bias, "
      "Tensor? exclude_offsets, Tensor? exclude_indices, float label_smoothing, int ignore_index, "
      "float skip_below, bool user_wanted, bool item_wanted, bool bias_wanted) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  // user and item [B, D], scales [B], ids [B] -> loss [B] and statistics [4, B], those of the rows
  // and those of the columns
  m.def(
      "fusion_contrastive(Tensor user, Tensor item, Tensor? user_scale, Tensor? item_scale, "
      "Tensor? ids) -> (Tensor, Tensor)");
  m.def(
      "fusion_contrastive_backward(Tensor grad, Tensor statistics, Tensor user, Tensor item, "
      "Tensor? user_scale, Tensor? item_scale, Tensor? ids, bool user_wanted, bool item_wanted) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
  // user [B, N, D], item [B, M, D], values [B, N, Du] and [B, M, Di] or the sides themselves, masks
  // [B, N] and [B, M]
  // -> user_from_item [B, N, Di], item_from_user [B, M, Du], log-sum-exps [B, N] and [B, M]
  m.def(
      "bidirectional_fusion(Tensor user, Tensor item, Tensor? user_value, Tensor? item_value, "
      "Tensor? user_mask, Tensor? item_mask, float? scale) -> (Tensor, Tensor, Tensor, Tensor)");
  // -> the gradients of user, item and their values; without a batch where they are not wanted. A
  // side without values has the sum of both
  m.def(
      "bidirectional_fusion_backward(Tensor grad_from_item, Tensor grad_from_user, "
      "Tensor from_item, Tensor from_user, Tensor user_log_sum, Tensor item_log_sum, Tensor user, "
      "Tensor item, Tensor? user_value, Tensor? item_value, Tensor? user_mask, Tensor? item_mask, "
      "float? scale, bool user_wanted, bool item_wanted, bool user_value_wanted, "
      "bool item_value_wanted) -> (Tensor, Tensor, Tensor, Tensor)");
  // query [B or 1, Q, D], key [B, M, D], value [B, M, Dv] or key's, masks [B, M] and [B, Q] ->
  // [B, Q, Dv], the weights [B, H, Q, M] ([0, H, Q, M] if not wanted), and the log-sum-exp of the
  // scores [B, H, Q], which only long rows keep (zeros for others)
  m.def(
      "attention_fusion(Tensor query, Tensor key, Tensor? value, Tensor? mask, Tensor? query_mask, "
      "int num_heads, float? scale, float dropout_p, Tensor? seed, bool weights_wanted) "
      "-> (Tensor, Tensor, Tensor)");
  // -> the gradients of query, key and value; empty where not wanted. Without a value, key's is the
  // sum of both
  m.def(
      "attention_fusion_backward(Tensor grad, Tensor? grad_weights, Tensor out, Tensor log_sum, "
      "Tensor query, Tensor key, Tensor? value, Tensor? mask, Tensor? query_mask, int num_heads, "
      "float? scale, float dropout_p, Tensor? seed, bool query_wanted, bool key_wanted, "
      "bool value_wanted) -> (Tensor, Tensor, Tensor)");
  // scores [U, C], vectors [U, C, D], mask [C] or [U, C] -> places [U, k]
  m.def(
      "mmr_rerank(Tensor scores, Tensor vectors, SymInt k, float trade_off, Tensor? mask) "
      "-> Tensor");
  // values [B, M, D], logits [B, M] or [M] in the accumulation dtype, mask [B, M] -> [B, D]
  m.def("weighted_fusion(Tensor values, Tensor logits, Tensor? mask) -> Tensor");
  // -> the gradients of values and logits; one that is not wanted is empty
  m.def(
      "weighted_fusion_backward(Tensor grad, Tensor values, Tensor logits, Tensor? mask, "
      "bool values_wanted, bool logits_wanted) -> (Tensor, Tensor)");
  // values [T, D], or with ids [T] a table [P, D], offsets [B + 1], query [B, D] or weights [T] in
  // the accumulation dtype -> [B, D] and statistics [2, B], peak and total of the softmax ([2, 0]
  // without a query)
  m.def(
      "history_fusion(Tensor values, Tensor offsets, Tensor? query, Tensor? weights, Tensor? ids) "
      "-> (Tensor, Tensor)");
  // -> the gradients of values, query and weights; those that are not wanted are empty
  m.def(
      "history_fusion_backward(Tensor grad, Tensor statistics, Tensor values, Tensor offsets, "
      "Tensor? query, Tensor? weights, Tensor? ids, bool values_wanted, bool query_wanted, "
      "bool weights_wanted) -> (Tensor, Tensor, Tensor)");
  // matrix [B, D, D] -> eigenvalues [B, D] ascending, eigenvectors [B, D, D]; implemented over
  // torch.linalg in fusionops/ops/gram_power.py
  m.def("symmetric_eigen(Tensor matrix) -> (Tensor, Tensor)");
}

}  // namespace fusionops::torch_face
