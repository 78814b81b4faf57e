package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/mdlayher/vsock"
	toolkit "github.com/prometheus/exporter-toolkit/web"
)

// Limits of a connection. Profiles, downloads and live streams extend writeTimeout for
// themselves; readTimeout does not hold for the time in which a request that has been read
// is answered.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second // of a request with its body
	writeTimeout      = 2 * time.Minute
	idleTimeout       = 5 * time.Minute // longer than the usual scrape intervals
	maxHeaderBytes    = 64 << 10
)

// drainTimeout is how long requests may take to end once the server is to stop.
const drainTimeout = 5 * time.Second

// ServeOptions are what is served, and where.
type ServeOptions struct {
	Handler http.Handler
	// Flags are the exporter-toolkit's: addresses, systemd's sockets, and the file with
	// TLS and basic authentication.
	Flags  *toolkit.FlagConfig
	Logger *slog.Logger
	// Ready is called once, when connections are accepted, with the addresses in the
	// order of the flags. It may be nil.
	Ready func([]net.Addr)
}

// Serve serves until ctx ends or one of the listeners fails. Then it accepts no more
// connections, gives requests under way five seconds to end, and cuts off what is left. It
// returns why it could not begin or go on, and nil when ctx ended.
func Serve(ctx context.Context, o ServeOptions) error {
	if file := *o.Flags.WebConfigFile; file != "" {
		if err := toolkit.Validate(file); err != nil {
			return fmt.Errorf("--web.config.file %s: %w", file, err)
		}
	}
	listeners, err := listen(o.Flags)
	if err != nil {
		return err
	}
	return serve(ctx, listeners, o)
}

// serve takes the listeners over, and closes them. Each gets a server of its own, because
// the toolkit's Serve changes the server that it is given.
func serve(ctx context.Context, listeners []net.Listener, o ServeOptions) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	servers := make([]*http.Server, len(listeners))
	addresses := make([]net.Addr, len(listeners))
	var serving sync.WaitGroup
	for i, listener := range listeners {
		servers[i] = &http.Server{
			Handler:           o.Handler,
			BaseContext:       func(net.Listener) context.Context { return withStopping(context.Background(), ctx.Done()) },
			ReadHeaderTimeout: readHeaderTimeout,
			ReadTimeout:       readTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
			ConnState:         newConnections(maxConnections).state,
			ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
		}
		addresses[i] = listener.Addr()
		serving.Go(func() {
			defer listener.Close()
			if err := toolkit.Serve(listener, servers[i], o.Flags, o.Logger); !errors.Is(err, http.ErrServerClosed) {
				fail(&listenerError{listener.Addr(), err})
			}
		})
	}
	if o.Ready != nil {
		o.Ready(addresses)
	}
	<-ctx.Done()
	drain(servers, o.Logger)
	serving.Wait()

	if failed, ok := errors.AsType[*listenerError](context.Cause(ctx)); ok {
		return failed
	}
	return nil
}

// listenerError is why a listener stopped by itself.
type listenerError struct {
	address net.Addr
	err     error
}

func (e *listenerError) Error() string { return fmt.Sprintf("serving on %s: %v", e.address, e.err) }
func (e *listenerError) Unwrap() error { return e.err }

// drain ends the servers: at first without harm to requests under way.
func drain(servers []*http.Server, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	var draining sync.WaitGroup
	for _, server := range servers {
		draining.Go(func() {
			if err := server.Shutdown(ctx); err != nil {
				logger.Warn("requests were cut off because they did not end in time", "limit", drainTimeout)
				_ = server.Close()
			}
		})
	}
	draining.Wait()
}

// listen opens every listener that the flags ask for, or none.
func listen(flags *toolkit.FlagConfig) (listeners []net.Listener, err error) {
	if flags.WebSystemdSocket != nil && *flags.WebSystemdSocket {
		return systemdListeners()
	}
	if len(*flags.WebListenAddresses) == 0 {
		return nil, errors.New("there is no address to listen on: give --web.listen-address, or --web.systemd-socket")
	}
	defer func() {
		if err != nil {
			closeAll(listeners)
		}
	}()
	for _, address := range *flags.WebListenAddresses {
		listener, err := listenOn(address)
		if err != nil {
			return listeners, fmt.Errorf("--web.listen-address %s: %w%s", address, err, advice(address, err))
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}

// advice says what to do about an address that cannot be listened on; "" where the error
// says it all.
func advice(address string, err error) string {
	if errors.Is(err, syscall.EADDRINUSE) {
		return ": stop what listens there, or choose another address with --web.listen-address"
	}
	if _, number := strconv.ParseUint(address, 10, 16); number == nil {
		return "; did you mean :" + address + "?"
	}
	return ""
}

func listenOn(address string) (net.Listener, error) {
	port, isVsock := strings.CutPrefix(address, "vsock://:")
	if !isVsock {
		return net.Listen("tcp", address)
	}
	number, err := strconv.ParseUint(port, 10, 32)
	if err != nil {
		return nil, errors.New("write a vsock address like vsock://:10180")
	}
	return vsock.Listen(uint32(number), nil)
}

// systemdListeners returns the sockets that systemd opened for this process. They can be
// taken once.
func systemdListeners() ([]net.Listener, error) {
	listeners, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("--web.systemd-socket: %w", err)
	}
	if len(listeners) == 0 {
		return nil, errors.New("--web.systemd-socket: systemd passed no socket: start quant-exporter by its socket unit")
	}
	for i, listener := range listeners {
		if listener == nil {
			closeAll(listeners)
			return nil, fmt.Errorf("--web.systemd-socket: socket %d of the socket unit is not a stream socket: use ListenStream= only", i+1)
		}
	}
	return listeners, nil
}

func closeAll(listeners []net.Listener) {
	for _, listener := range listeners {
		if listener != nil {
			_ = listener.Close()
		}
	}
}
