package estimate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
)

// This file says which type llama-quantize gives each tensor. The rules come from
// llama.cpp's src/llama-quant.cpp (tensor_allows_quantization,
// llama_tensor_get_type_impl, tensor_type_fallback), read in late 2026 at the level of
// build 11669 and checked against that build's files. The rules for the Falcon and
// Bailing-MoE 3 architectures, which differ in a few tensors, are left out.

// copied is the target that changes no type.
const copied = "COPY"

// recipe is what a format gives the tensors that are not the same in every layer's
// place: the rest depends on the layer and is in the functions below.
type recipe struct {
	base      gguf.Type // whatever no rule speaks of
	output    gguf.Type // the output matrix, or the token embedding that serves as one
	embedding gguf.Type // the token embedding otherwise
}

// recipes by format, in llama-quantize's spelling.
var recipes = map[string]recipe{
	"F32":       {base: gguf.F32},
	"F16":       {base: gguf.F16},
	"BF16":      {base: gguf.BF16},
	"Q8_0":      {gguf.Q8_0, gguf.Q8_0, gguf.Q8_0},
	"Q6_K":      {gguf.Q6_K, gguf.Q6_K, gguf.Q6_K},
	"Q5_K_M":    {gguf.Q5_K, gguf.Q6_K, gguf.Q5_K},
	"Q5_K_S":    {gguf.Q5_K, gguf.Q6_K, gguf.Q5_K},
	"Q5_1":      {gguf.Q5_1, gguf.Q6_K, gguf.Q5_1},
	"Q5_0":      {gguf.Q5_0, gguf.Q6_K, gguf.Q5_0},
	"Q4_K_M":    {gguf.Q4_K, gguf.Q6_K, gguf.Q4_K},
	"Q4_K_S":    {gguf.Q4_K, gguf.Q6_K, gguf.Q4_K},
	"Q4_1":      {gguf.Q4_1, gguf.Q6_K, gguf.Q4_1},
	"Q4_0":      {gguf.Q4_0, gguf.Q6_K, gguf.Q4_0},
	"IQ4_NL":    {gguf.IQ4_NL, gguf.Q6_K, gguf.IQ4_NL},
	"IQ4_XS":    {gguf.IQ4_XS, gguf.Q6_K, gguf.IQ4_XS},
	"MXFP4_MOE": {gguf.MXFP4, gguf.Q8_0, gguf.Q8_0},
	"Q3_K_L":    {gguf.Q3_K, gguf.Q6_K, gguf.Q3_K},
	"Q3_K_M":    {gguf.Q3_K, gguf.Q6_K, gguf.Q3_K},
	"Q3_K_S":    {gguf.Q3_K, gguf.Q6_K, gguf.Q3_K},
	"IQ3_M":     {gguf.IQ3_S, gguf.Q6_K, gguf.IQ3_S},
	"IQ3_S":     {gguf.IQ3_S, gguf.Q6_K, gguf.IQ3_S},
	"IQ3_XS":    {gguf.IQ3_S, gguf.Q6_K, gguf.IQ3_S},
	"IQ3_XXS":   {gguf.IQ3_XXS, gguf.Q5_K, gguf.IQ3_S},
	"Q2_K":      {gguf.Q2_K, gguf.Q6_K, gguf.Q2_K},
	"Q2_K_S":    {gguf.Q2_K, gguf.Q6_K, gguf.Q2_K},
	"IQ2_M":     {gguf.IQ2_S, gguf.Q5_K, gguf.IQ3_S},
	"IQ2_S":     {gguf.IQ2_XS, gguf.Q5_K, gguf.IQ3_S},
	"IQ2_XS":    {gguf.IQ2_XS, gguf.Q5_K, gguf.Q2_K},
	"IQ2_XXS":   {gguf.IQ2_XXS, gguf.Q5_K, gguf.Q2_K},
	"Q2_0":      {gguf.Q2_0, gguf.Q6_K, gguf.Q4_K},
	"TQ2_0":     {gguf.TQ2_0, gguf.Q6_K, gguf.Q4_K},
	"TQ1_0":     {gguf.TQ1_0, gguf.Q6_K, gguf.Q4_K},
	"IQ1_M":     {gguf.IQ1_M, gguf.Q5_K, gguf.Q2_K},
	"IQ1_S":     {gguf.IQ1_S, gguf.Q5_K, gguf.Q2_K},
	"Q1_0":      {gguf.Q1_0, gguf.Q6_K, gguf.Q1_0},
	copied:      {},
}

// Formats lists the formats that Of knows, sorted, by their canonical names.
func Formats() []string { return slices.Sorted(maps.Keys(recipes)) }

// needsImatrix reports whether a format puts a type into some tensor that llama-quantize
// makes with an importance matrix only (tensor_requires_imatrix).
func needsImatrix(format string) bool {
	return veryLow(format) || format == "IQ3_XXS" || format == "IQ3_XS" || format == "Q2_K_S"
}

// veryLow returns the formats of one and two bits that share one set of rules.
func veryLow(format string) bool {
	switch format {
	case "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M":
		return true
	}
	return false
}

// mix is one format applied to one model.
type mix struct {
	recipe
	format string
	model  *gguf.Header

	tied     bool // no output matrix: the token embedding serves
	grouped  bool // four or more heads share a key/value head
	large    bool // Llama of 70 B parameters
	layers   int
	values   int // number of attention value matrices, …
	value    int // … and of those so far
	down     int // ffn_down, ffn_gate and ffn_up matrices so far
	gate, up int
}

func newMix(model *gguf.Header, target string) (*mix, error) {
	format := gguf.Canonical(target)
	recipe, ok := recipes[format]
	if !ok {
		return nil, unknownFormat(target)
	}
	m := &mix{recipe: recipe, format: format, model: model, layers: int(model.Blocks)}
	m.tied = model.Tensor("output.weight") == nil
	if len(model.Heads) > 0 && len(model.KVHeads) > 0 && model.KVHeads[0] > 0 {
		heads, kv := model.Heads[0], model.KVHeads[0]
		m.grouped = heads/kv >= 4
		m.large = model.Architecture == "llama" && model.Blocks == 80 && heads != kv
	}
	for i := range model.Tensors {
		if roleOf(model.Tensors[i].Name) == attentionValue {
			m.values++
		}
	}
	return m, nil
}

// apply gives each of the model's tensors its type, in the model's order, and the share
// of the matrices' parameters that fell back.
func (m *mix) apply() (types []gguf.Type, fallen float64, err error) {
	types = make([]gguf.Type, len(m.model.Tensors))
	var all, instead int64
	for _, i := range inLayerOrder(m.model.Tensors) {
		tensor := &m.model.Tensors[i]
		if m.format == copied || !quantizes(tensor) {
			types[i] = tensor.Type
			continue
		}
		if !m.base.Quantized() {
			types[i] = m.base
			continue
		}
		wanted := m.choose(tensor)
		if types[i], err = fit(tensor, wanted); err != nil {
			return nil, 0, fmt.Errorf("llama.cpp cannot make %s of this model: %w", m.format, err)
		}
		all += tensor.Elements
		if types[i] != wanted {
			instead += tensor.Elements
		}
	}
	if all > 0 {
		fallen = float64(instead) / float64(all)
	}
	return types, fallen, nil
}

// inLayerOrder returns the tensors' indexes in the order in which llama-quantize counts
// layers: by layer, what belongs to none first, then by name.
func inLayerOrder(tensors []gguf.Tensor) []int {
	order := make([]int, len(tensors))
	layers := make([]int, len(tensors))
	for i := range tensors {
		order[i], layers[i] = i, layerOf(tensors[i].Name)
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(layers[a], layers[b]), strings.Compare(tensors[a].Name, tensors[b].Name))
	})
	return order
}

// layerOf returns the number in "blk.7.attn_q.weight"; −1 without one.
func layerOf(name string) int {
	var layer int
	if _, err := fmt.Sscanf(name, "blk.%d.", &layer); err != nil {
		return -1
	}
	return layer
}

// quantizes reports whether llama-quantize changes a tensor's type at all: matrices of
// weights, without those that are small, or that a model suffers for.
func quantizes(tensor *gguf.Tensor) bool {
	name := tensor.Name
	if tensor.Dimensions() < 2 || !strings.HasSuffix(name, "weight") {
		return false
	}
	if name == "position_embd.weight" || name == "token_types.weight" {
		return false
	}
	return !slices.ContainsFunc(kept, func(part string) bool { return strings.Contains(name, part) })
}

// kept are parts of the names of matrices that keep their type.
var kept = []string{
	"_norm.weight",
	"ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", // a mixture's router
	"altup", "laurel", "per_layer_model_proj", // Gemma 3n
	"ssm_conv1d", "shortconv.conv.weight", // Mamba, LFM2
	"indexer.k_proj.weight", "indexer.q_proj.weight", // MiniMax
	"time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight", // RWKV
	"time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight",
	"time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight",
	"time_mix_g1.weight", "time_mix_g2.weight",
	"time_mix_decay_w1.weight", "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight",
	"attn_rel_b.weight", // T5
	".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger",
	"a.rvq.codebook", "mm.a.code_embd", // audio
}

// role is what a matrix is for.
type role int

const (
	other role = iota
	outputMatrix
	embeddingTable
	attentionValue // and matrices that contain it
	attentionKey
	attentionQuery
	attentionOutput
	ffnDown
	ffnGate
	ffnUp
)

func roleOf(name string) role {
	switch name {
	case "output.weight":
		return outputMatrix
	case tokenEmbedding, "per_layer_token_embd.weight":
		return embeddingTable
	}
	for _, known := range []struct {
		part string
		role role
	}{
		{"attn_qkv.weight", attentionValue},
		{"attn_kv_b.weight", attentionValue},
		{"attn_v.weight", attentionValue},
		{"attn_k.weight", attentionKey},
		{"attn_q.weight", attentionQuery},
		{"attn_output.weight", attentionOutput},
		{"ffn_up", ffnUp},
		{"ffn_gate", ffnGate},
		{"ffn_down", ffnDown},
	} {
		if strings.Contains(name, known.part) {
			return known.role
		}
	}
	return other
}

// choose returns the type that the mix wants for a tensor, whether its rows fit or not.
func (m *mix) choose(tensor *gguf.Tensor) gguf.Type {
	role := roleOf(tensor.Name)
	switch {
	case role == outputMatrix, role == embeddingTable && m.tied:
		if tensor.Dims[0]%m.base.BlockSize() != 0 {
			return gguf.Q8_0
		}
		return m.output
	case m.format == "MXFP4_MOE":
		if len(tensor.Dims) > 2 && tensor.Dims[2] > 1 { // a stack of experts
			return gguf.MXFP4
		}
		return gguf.Q8_0
	case role == embeddingTable:
		return m.embedding
	case veryLow(m.format):
		return m.chooseVeryLow(role)
	}
	switch role {
	case attentionValue:
		return m.chooseValue()
	case attentionKey, attentionQuery:
		return m.chooseKeyOrQuery(role)
	case attentionOutput:
		return m.chooseAttentionOutput()
	case ffnDown:
		return m.chooseDown(m.layer(&m.down, tensor.Name))
	case ffnGate:
		return m.chooseGateOrUp(m.layer(&m.gate, tensor.Name))
	case ffnUp:
		return m.chooseGateOrUp(m.layer(&m.up, tensor.Name))
	}
	return m.base
}

// layer is which layer a matrix of the feed-forward network belongs to: the how manieth
// of its kind it is, or what its name says where a layer has several.
func (m *mix) layer(counter *int, name string) int {
	layer := *counter
	*counter++
	if m.model.Experts > 1 {
		return layerOf(name)
	}
	return layer
}

// first reports whether layer is among the first 1/share of the layers.
func (m *mix) first(layer, share int) bool { return layer < m.layers/share }

// moreBits picks the first and the last eighth of n layers and every third between.
func moreBits(i, n int) bool {
	return i < n/8 || i >= 7*n/8 || (i-n/8)%3 == 2
}

func (m *mix) chooseVeryLow(role role) gguf.Type {
	better := gguf.Q2_K
	if m.format == "IQ2_S" || m.format == "IQ2_M" {
		better = gguf.IQ3_S
	}
	switch role {
	case attentionValue:
		if m.grouped || m.model.Experts >= 4 {
			return gguf.Q4_K
		}
		return better
	case attentionKey:
		if m.model.Experts == 8 {
			return gguf.Q4_K
		}
	case ffnDown:
		m.down++
		if m.first(m.down-1, 8) {
			return better
		}
	case attentionOutput:
		switch {
		case m.model.Experts == 8:
			return gguf.Q5_K
		case m.format == "IQ1_S", m.format == "IQ1_M":
			return gguf.IQ2_XXS
		case better == gguf.IQ3_S:
			return better
		}
	}
	return m.base
}

func (m *mix) chooseValue() gguf.Type {
	i := m.value
	m.value++
	if m.model.Experts == 8 {
		return gguf.Q8_0
	}
	kind := m.base
	switch m.format {
	case "Q2_K":
		kind = gguf.Q3_K
		if m.grouped {
			kind = gguf.Q4_K
		}
	case "Q2_K_S", "IQ3_XXS", "IQ3_XS", "IQ3_S":
		if m.grouped {
			kind = gguf.Q4_K
		}
	case "IQ3_M":
		kind = gguf.Q4_K
	case "Q3_K_M":
		kind = gguf.Q4_K
		if i < 2 {
			kind = gguf.Q5_K
		}
	case "Q3_K_L":
		kind = gguf.Q5_K
	case "IQ4_NL", "IQ4_XS":
		if m.grouped {
			kind = gguf.Q5_K
		}
	case "Q4_K_S":
		if i < 4 {
			kind = gguf.Q5_K
		}
	case "Q4_K_M", "Q5_K_M":
		if moreBits(i, m.values) {
			kind = gguf.Q6_K
		}
	}
	if m.large && (kind == gguf.Q3_K || kind == gguf.Q4_K) {
		return gguf.Q5_K
	}
	return kind
}

func (m *mix) chooseKeyOrQuery(role role) gguf.Type {
	switch {
	case role == attentionKey && m.model.Experts == 8:
		return gguf.Q8_0
	case m.format == "IQ3_XS":
		return gguf.IQ3_XXS
	case m.format == "IQ3_XXS":
		return gguf.IQ2_S
	}
	return m.base
}

func (m *mix) chooseAttentionOutput() gguf.Type {
	if m.model.Experts == 8 {
		switch m.format {
		case "Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M",
			"IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_NL", "IQ4_XS":
			return gguf.Q5_K
		}
		return m.base
	}
	switch m.format {
	case "Q2_K":
		return gguf.Q3_K
	case "IQ3_XXS":
		return gguf.IQ3_S
	case "Q3_K_M", "IQ3_M":
		return gguf.Q4_K
	case "Q3_K_L":
		return gguf.Q5_K
	}
	return m.base
}

func (m *mix) chooseDown(layer int) gguf.Type {
	switch m.format {
	case "Q2_K":
		return gguf.Q3_K
	case "Q2_K_S":
		if m.first(layer, 8) {
			return gguf.Q4_K
		}
	case "Q3_K_M":
		if m.first(layer, 16) {
			return gguf.Q5_K
		}
		return gguf.Q4_K
	case "Q3_K_L":
		return gguf.Q5_K
	case "IQ3_M":
		if m.first(layer, 8) || m.model.Experts == 8 && moreBits(layer, m.layers) {
			return gguf.Q4_K
		}
	case "Q4_K_S", "IQ4_NL", "IQ4_XS":
		if m.first(layer, 8) {
			return gguf.Q5_K
		}
	case "Q4_K_M", "Q5_K_M":
		if moreBits(layer, m.layers) {
			return gguf.Q6_K
		}
	}
	return m.base
}

func (m *mix) chooseGateOrUp(layer int) gguf.Type {
	if m.format == "IQ3_XS" && layer >= m.layers/8 && layer < 7*m.layers/8 {
		return gguf.IQ3_XXS
	}
	return m.base
}

// fit returns the type that a tensor gets if its rows are not a whole number of the wanted
// type's blocks. Builds older than the one named above refuse a model whose rows do not
// fit blocks of 32; this one keeps F16.
func fit(tensor *gguf.Tensor, wanted gguf.Type) (gguf.Type, error) {
	row := tensor.Dims[0]
	if row%wanted.BlockSize() == 0 {
		return wanted, nil
	}
	if row%gguf.Q8_0.BlockSize() != 0 && wanted != gguf.Q1_0 {
		return gguf.F16, nil
	}
	switch wanted {
	case gguf.IQ1_S, gguf.IQ1_M, gguf.IQ2_XXS, gguf.IQ2_XS, gguf.IQ2_S, gguf.IQ3_XXS, gguf.IQ3_S, gguf.IQ4_XS:
		return gguf.IQ4_NL, nil
	case gguf.Q2_0, gguf.Q2_K, gguf.Q3_K, gguf.TQ1_0, gguf.TQ2_0:
		return gguf.Q4_0, nil
	case gguf.Q4_K:
		return gguf.Q5_0, nil
	case gguf.Q5_K:
		return gguf.Q5_1, nil
	case gguf.Q6_K:
		return gguf.Q8_0, nil
	}
	return 0, fmt.Errorf("tensor %q has rows of %d elements, not a multiple of the %d that a block of %s holds, and that type has no substitute", tensor.Name, row, wanted.BlockSize(), wanted)
}
