package collector

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Family describes one metric family: what /metrics says of it, and its labels.
type Family struct {
	Name   string
	Type   string   // "counter" or "gauge"
	Help   string   // one sentence, with the unit
	Labels []string // in the order in which documentation names them
}

// The types of families.
const (
	counter = "counter"
	gauge   = "gauge"
)

// family is the place of a Family in the table.
type family int

// The families, in the order of the table.
const (
	decisionTotal family = iota
	lastDecision
	throughput
	phaseThroughput
	dropRatio
	dropLower
	dropUpper
	thresholdRatio
	duration
	lastRun
	lastRunSeconds
	lastSuccess
	nextRun
	running
	queued
	progress
	failuresTotal
	rejectionsTotal
	skippedTotal
	inputChangesTotal
	modelSize
	memory
	memoryLimit
	klDivergence
	klDivergenceUpper
	klDivergenceLimit
	top1Agreement
	top1AgreementLower
	top1AgreementLimit
	klDivergenceP999
	klDivergenceP999Limit
	rmsDeltaP
	rmsDeltaPUpper
	rmsDeltaPLimit
	perplexity
	perplexityIncreaseUpper
	perplexityIncreaseLimit
	chosenInfo
	published
	unpublished
	publishFailures
	eventsDelivered
	eventsPending
	eventsOldest
	deliveryFailures
	busUp
	engineUp
	engineInfo
	fleetUp
	fleetWorkers
	fleetRunning
	fleetWaiting
	fleetOldest
	workerDecided
	workerFailed
	workerDisagreement

	reloadSuccessful // from here on families of the exporter itself: see self.go
	reloadSeconds
	storageSize
	storageWriteFailures
	externalURL

	firstOfExporter = reloadSuccessful
)

// families is the one list of what is exported: metrics, HELP and documentation are made
// from it.
var families = [...]Family{
	decisionTotal: {
		"quant_cycle_decision_total", counter,
		"Decisions since the state was created, by result: kept, rejected or inconclusive.",
		[]string{"result", "model_name", "source_format", "target_format"},
	},
	lastDecision: {
		"quant_cycle_last_decision", gauge,
		"1 for the decision that stands after the last finished cycle, else 0; inconclusive is 1 only while neither kept nor rejected stands.",
		[]string{"result", "model_name", "source_format", "target_format"},
	},
	throughput: {
		"quant_cycle_throughput_tokens_per_second", gauge,
		"Throughput in tokens per second in the last finished cycle, of generation or, if only prompt is measured, of prompt; for the stage original it is the median over the cycle's rounds.",
		[]string{"model_name", "format", "stage"},
	},
	phaseThroughput: {
		"quant_cycle_phase_throughput_tokens_per_second", gauge,
		"Throughput in tokens per second of each phase and stage in the last finished cycle, over the rounds that decided.",
		[]string{"model_name", "source_format", "target_format", "phase", "stage"},
	},
	dropRatio: {
		"quant_cycle_throughput_drop_ratio", gauge,
		"Drop in throughput from original to quantized in the last finished cycle, as a ratio of the original's throughput; negative when the copy is faster.",
		[]string{"model_name", "source_format", "target_format", "phase"},
	},
	dropLower: {
		"quant_cycle_throughput_drop_lower_ratio", gauge,
		"Lower end of the interval around the drop in throughput in the last finished cycle, a ratio; -Inf when open.",
		[]string{"model_name", "source_format", "target_format", "phase"},
	},
	dropUpper: {
		"quant_cycle_throughput_drop_upper_ratio", gauge,
		"Upper end of the interval around the drop in throughput in the last finished cycle, a ratio; +Inf when open.",
		[]string{"model_name", "source_format", "target_format", "phase"},
	},
	thresholdRatio: {
		"quant_cycle_threshold_ratio", gauge,
		"Drop in throughput, a ratio, at which a copy is rejected, in the last finished cycle; before the first cycle, as configured.",
		[]string{"model_name", "target_format"},
	},
	duration: {
		"quant_cycle_duration_seconds", gauge,
		"Time in seconds that each operation took in the last finished cycle of the model.",
		[]string{"model_name", "operation"},
	},
	lastRun: {
		"quant_cycle_last_run_timestamp", gauge,
		"The same as quant_cycle_last_run_timestamp_seconds, in Unix seconds, under its original name.",
		[]string{"model_name"},
	},
	lastRunSeconds: {
		"quant_cycle_last_run_timestamp_seconds", gauge,
		"When the last cycle of the model ended, with decisions or with failures, in Unix seconds; absent before the first.",
		[]string{"model_name"},
	},
	lastSuccess: {
		"quant_cycle_last_success_timestamp_seconds", gauge,
		"When the last cycle of the model without a failure ended, in Unix seconds; absent before the first.",
		[]string{"model_name"},
	},
	nextRun: {
		"quant_cycle_next_run_timestamp_seconds", gauge,
		"When the entry of the schedule is due next, in Unix seconds; absent while the entry is suspended.",
		[]string{"entry"},
	},
	running: {
		"quant_cycle_running", gauge,
		"1 while a run of the entry of the schedule is under way, else 0.",
		[]string{"entry"},
	},
	queued: {
		"quant_cycle_queued", gauge,
		"Runs of the entry of the schedule that are due and wait for their turn.",
		[]string{"entry"},
	},
	progress: {
		"quant_cycle_progress_ratio", gauge,
		"How much of the model's running cycle is done, a ratio from 0 to 1; absent while no cycle of the model runs.",
		[]string{"model_name"},
	},
	failuresTotal: {
		"quant_cycle_failures_total", counter,
		"Pairs of model and target that could not be decided since the state was created, by reason; failures are not decisions.",
		[]string{"model_name", "reason"},
	},
	rejectionsTotal: {
		"quant_cycle_rejections_total", counter,
		"Rejected copies since the state was created, by the gate that the copy did not pass.",
		[]string{"model_name", "target_format", "gate"},
	},
	skippedTotal: {
		"quant_cycle_skipped_total", counter,
		"What the entry of the schedule was due to do and did not, since the state was created, by reason.",
		[]string{"entry", "reason"},
	},
	inputChangesTotal: {
		"quant_cycle_input_changes_total", counter,
		"Cycles since the state was created in which an input of the model's decisions differed from the previous decision, by input.",
		[]string{"model_name", "input"},
	},
	modelSize: {
		"quant_cycle_model_size_bytes", gauge,
		"Size of the model's files in bytes: of the original as it was found, of quantized formats in the last finished cycle.",
		[]string{"model_name", "format"},
	},
	memory: {
		"quant_cycle_memory_bytes", gauge,
		"The most memory in bytes that the format took while it was measured in the last finished cycle, of the host and of each accelerator: weights, caches for what was measured, and what computing needs.",
		[]string{"model_name", "format", "device"},
	},
	memoryLimit: {
		"quant_cycle_memory_limit_bytes", gauge,
		"Memory in bytes, of the host or of the accelerator, above which a copy is rejected, in the last finished cycle; absent without this limit.",
		[]string{"model_name", "format", "device"},
	},
	klDivergence: {
		"quant_cycle_kl_divergence", gauge,
		"Mean Kullback-Leibler divergence of the quantized format's predictions from the original's in the last finished cycle, in nats; absent if quality is not evaluated.",
		[]string{"model_name", "format"},
	},
	klDivergenceUpper: {
		"quant_cycle_kl_divergence_upper", gauge,
		"Upper end of the interval around the mean Kullback-Leibler divergence in the last finished cycle, in nats, which is held to quant_cycle_kl_divergence_limit; of the chunks evaluated, which are fewer where the limits were clear before the last.",
		[]string{"model_name", "format"},
	},
	klDivergenceLimit: {
		"quant_cycle_kl_divergence_limit", gauge,
		"Mean Kullback-Leibler divergence, in nats, above which a copy is rejected, in the last finished cycle; before the first cycle, as configured; absent without this limit.",
		[]string{"model_name", "format"},
	},
	top1Agreement: {
		"quant_cycle_top1_agreement_ratio", gauge,
		"How often the quantized format and the original agree on the most likely token in the last finished cycle, a ratio; absent if quality is not evaluated.",
		[]string{"model_name", "format"},
	},
	top1AgreementLower: {
		"quant_cycle_top1_agreement_lower_ratio", gauge,
		"Lower end of the interval around the agreement on the most likely token in the last finished cycle, a ratio, which is held to quant_cycle_top1_agreement_limit_ratio; of the chunks evaluated, which are fewer where the limits were clear before the last.",
		[]string{"model_name", "format"},
	},
	top1AgreementLimit: {
		"quant_cycle_top1_agreement_limit_ratio", gauge,
		"Agreement on the most likely token, a ratio, below which a copy is rejected, in the last finished cycle; before the first cycle, as configured; absent without this limit.",
		[]string{"model_name", "format"},
	},
	klDivergenceP999: {
		"quant_cycle_kl_divergence_p999", gauge,
		"Kullback-Leibler divergence, in nats, that 99.9 % of the tokens are below in the last finished cycle, which is held to quant_cycle_kl_divergence_p999_limit; absent if it is not known, or not all chunks were evaluated.",
		[]string{"model_name", "format"},
	},
	klDivergenceP999Limit: {
		"quant_cycle_kl_divergence_p999_limit", gauge,
		"Kullback-Leibler divergence of one token in 1000, in nats, above which a copy is rejected, in the last finished cycle; before the first cycle, as configured; absent without this limit.",
		[]string{"model_name", "format"},
	},
	rmsDeltaP: {
		"quant_cycle_rms_delta_p_ratio", gauge,
		"Root mean square of the difference in the probability of the text's tokens between the quantized format and the original in the last finished cycle, a ratio; absent if quality is not evaluated.",
		[]string{"model_name", "format"},
	},
	rmsDeltaPUpper: {
		"quant_cycle_rms_delta_p_upper_ratio", gauge,
		"Upper end of the interval around the root mean square of the difference in the probability of the text's tokens in the last finished cycle, a ratio, which is held to quant_cycle_rms_delta_p_limit_ratio; of the chunks evaluated, which are fewer where the limits were clear before the last.",
		[]string{"model_name", "format"},
	},
	rmsDeltaPLimit: {
		"quant_cycle_rms_delta_p_limit_ratio", gauge,
		"Root mean square of the difference in the probability of the text's tokens, a ratio, above which a copy is rejected, in the last finished cycle; before the first cycle, as configured; absent without this limit.",
		[]string{"model_name", "format"},
	},
	perplexity: {
		"quant_cycle_perplexity", gauge,
		"Perplexity of the original and of quantized formats on the text for quality in the last finished cycle; absent if quality is not evaluated.",
		[]string{"model_name", "format"},
	},
	perplexityIncreaseUpper: {
		"quant_cycle_perplexity_increase_upper_ratio", gauge,
		"Upper end of the interval around the increase of the perplexity from the original to the quantized format in the last finished cycle, a ratio, which is held to quant_cycle_perplexity_increase_limit_ratio; of the chunks evaluated, which are fewer where the limits were clear before the last.",
		[]string{"model_name", "format"},
	},
	perplexityIncreaseLimit: {
		"quant_cycle_perplexity_increase_limit_ratio", gauge,
		"Increase of the perplexity, a ratio, above which a copy is rejected, in the last finished cycle; before the first cycle, as configured; absent without this limit.",
		[]string{"model_name", "format"},
	},
	chosenInfo: {
		"quant_cycle_chosen_info", gauge,
		"Always 1, labeled with the format that was chosen to be served after the last finished cycle; absent if none is chosen.",
		[]string{"model_name", "format"},
	},
	published: {
		"quant_cycle_published_timestamp_seconds", gauge,
		"When a copy in this format was last published, in Unix seconds; absent before the first.",
		[]string{"model_name", "format"},
	},
	unpublished: {
		"quant_cycle_unpublished", gauge,
		"1 while the last attempt to publish a copy in this format failed, else 0; absent if copies in this format are not published.",
		[]string{"model_name", "format"},
	},
	publishFailures: {
		"quant_cycle_copy_publish_failures_total", counter,
		"Kept copies that could not be published, since the state was created.",
		[]string{"model_name", "format"},
	},
	eventsDelivered: {
		"quant_cycle_events_published_total", counter,
		"Events that the A2A bus (a Redis stream that agents read) has accepted since the state was created.", nil,
	},
	eventsPending: {
		"quant_cycle_events_pending", gauge,
		"Events that wait to be delivered to the event stream; events that are held because no stream was ever configured do not count.", nil,
	},
	eventsOldest: {
		"quant_cycle_events_oldest_pending_timestamp_seconds", gauge,
		"When the oldest pending event was created, in Unix seconds; absent while none is pending.", nil,
	},
	deliveryFailures: {
		"quant_cycle_event_publish_failures_total", counter,
		"Failed attempts to deliver events to the event stream since the state was created, by reason.",
		[]string{"reason"},
	},
	busUp: {
		"quant_cycle_bus_up", gauge,
		"1 if the event stream answered the last time, else 0; absent if none is configured.", nil,
	},
	engineUp: {
		"quant_cycle_engine_up", gauge,
		"1 if the tools that quantize and measure were found at the last look, else 0; absent before the first look.", nil,
	},
	engineInfo: {
		"quant_cycle_engine_info", gauge,
		"Always 1, labeled with the engine and the hardware that it last measured on; absent while the engine is not up.",
		[]string{"version", "build", "backends", "cpu", "gpu"},
	},
	fleetUp: {
		"quant_cycle_fleet_up", gauge,
		"1 if the Redis of the fleet could be used at the last look, else 0; absent if no fleet is configured.", nil,
	},
	fleetWorkers: {
		"quant_cycle_workers", gauge,
		"Workers of the class of hardware that were heard of within the last half minute; absent if no fleet is configured.",
		[]string{"hardware_class"},
	},
	fleetRunning: {
		"quant_cycle_fleet_running", gauge,
		"Cycles that workers of the class of hardware run.",
		[]string{"hardware_class"},
	},
	fleetWaiting: {
		"quant_cycle_fleet_waiting", gauge,
		"Cycles that are given to the class of hardware, and that no worker has begun.",
		[]string{"hardware_class"},
	},
	fleetOldest: {
		"quant_cycle_fleet_oldest_waiting_timestamp_seconds", gauge,
		"When the cycle was given to the class of hardware that has waited for a worker for longest, in Unix seconds; absent while none waits.",
		[]string{"hardware_class"},
	},
	workerDecided: {
		"quant_cycle_worker_last_decision_timestamp_seconds", gauge,
		"When a pair was last decided on a host of the class of hardware, in Unix seconds; absent where none was.",
		[]string{"hardware_class", "host"},
	},
	workerFailed: {
		"quant_cycle_worker_last_failure_timestamp_seconds", gauge,
		"When a pair last failed on a host of the class of hardware, for another reason than that somebody canceled it, in Unix seconds; absent where none did.",
		[]string{"hardware_class", "host"},
	},
	workerDisagreement: {
		"quant_cycle_worker_disagreement_ratio", gauge,
		"How much faster the original runs on a host than on the nearest other host of its class of hardware, by as much as their intervals are apart, a ratio; negative when it is slower, 0 while the intervals overlap, and absent where no other host has measured the same.",
		[]string{"model_name", "hardware_class", "host"},
	},

	reloadSuccessful: {
		"quant_exporter_config_last_reload_successful", gauge,
		"1 if the last attempt to load the configuration was successful, else 0.", nil,
	},
	reloadSeconds: {
		"quant_exporter_config_last_reload_success_timestamp_seconds", gauge,
		"When the configuration was last loaded successfully, in Unix seconds.", nil,
	},
	storageSize: {
		"quant_exporter_storage_size_bytes", gauge,
		"Size of the state's file in bytes; the file never shrinks.", nil,
	},
	storageWriteFailures: {
		"quant_exporter_storage_write_failures_total", counter,
		"Failed writes to the state since the exporter was started.", nil,
	},
	externalURL: {
		"quant_exporter_external_url_info", gauge,
		"Always 1, labeled with the URL under which people reach the pages; absent without --web.external-url.",
		[]string{"url"},
	},
}

// Families lists the families of this package, in the order of the documentation: first
// the [Collector]'s, then the families of [Reloads], [RegisterStorage] and
// [RegisterExternalURL]. The caller owns the list.
func Families() []Family {
	list := slices.Clone(families[:])
	for i := range list {
		list[i].Labels = slices.Clone(list[i].Labels)
	}
	return list
}

// desc makes the descriptor by which client_golang knows the family.
func (f family) desc() *prometheus.Desc {
	return prometheus.NewDesc(families[f].Name, families[f].Help, families[f].Labels, nil)
}

// classLabel is the label of series of a fleet's entries.
const classLabel = "hardware_class"

// classDesc is desc for a series of a fleet's entry, which has classLabel, too.
func (f family) classDesc() *prometheus.Desc {
	return prometheus.NewDesc(families[f].Name, families[f].Help, append(slices.Clone(families[f].Labels), classLabel), nil)
}

// opts returns the options for a metric whose value client_golang keeps.
func (f family) opts() prometheus.Opts {
	return prometheus.Opts{Name: families[f].Name, Help: families[f].Help}
}
