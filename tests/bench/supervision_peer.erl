%% The peer of `ntrace bench supervision`: OTP's supervisor and gen_server doing the same work.
%% usage: escript supervision_peer.erl RESTARTS CHILDREN…   prints one JSON line per CHILDREN.
-module(supervision_peer).
-mode(compile).
-behaviour(gen_server).
-export([main/1, init/1, start_link/1, handle_call/3, handle_cast/2]).

main([Restarts | Sizes]) ->
    logger:set_primary_config(level, none),
    [measure(list_to_integer(Restarts), list_to_integer(S)) || S <- Sizes].

name(I) -> list_to_atom("child_" ++ integer_to_list(I)).

start_link(Name) -> gen_server:start_link({local, Name}, ?MODULE, child, []).

init(child) -> {ok, none};
init({supervisor, Children}) ->
    Specs = [#{id => I, start => {?MODULE, start_link, [name(I)]}} || I <- lists:seq(1, Children)],
    {ok, {#{strategy => one_for_one, intensity => 1000000000, period => 1}, Specs}}.

handle_call(ping, _From, State) -> {reply, pong, State}.
handle_cast(burst, _State) -> error(burst_as_told).

measure(Restarts, Children) ->
    erlang:garbage_collect(),
    Before = erlang:memory(total),
    Began = erlang:monotonic_time(nanosecond),
    {ok, Sup} = supervisor:start_link(?MODULE, {supervisor, Children}),
    Spawned = erlang:monotonic_time(nanosecond) - Began,
    erlang:garbage_collect(Sup),
    Bytes = erlang:memory(total) - Before,
    _ = [restart(name(1 + I rem Children)) || I <- lists:seq(1, Restarts div 10)],
    Times = lists:sort([restart(name(1 + I rem Children)) || I <- lists:seq(1, Restarts)]),
    At = fun(Share) -> lists:nth(1 + round(Share * (Restarts - 1)), Times) / 1000 end,
    io:format("{\"children\":~b,\"side\":\"erlang\",\"median_us\":~.2f,\"p99_us\":~.2f,"
              "\"spawn_us\":~.2f,\"bytes_per_child\":~b}~n",
              [Children, At(0.5), At(0.99), Spawned / 1000 / Children, Bytes div Children]),
    unlink(Sup),
    Ref = monitor(process, Sup),
    exit(Sup, shutdown),
    receive {'DOWN', Ref, process, Sup, _} -> ok end.

%% From the message that makes it fail to the first answer of its successor.
restart(Name) ->
    Old = whereis(Name),
    Began = erlang:monotonic_time(nanosecond),
    gen_server:cast(Old, burst),
    ask(Name, Old),
    erlang:monotonic_time(nanosecond) - Began.

ask(Name, Old) ->
    case whereis(Name) of
        New when is_pid(New), New =/= Old ->
            try gen_server:call(New, ping) of pong -> ok
            catch exit:_ -> ask(Name, Old)
            end;
        _ -> erlang:yield(), ask(Name, Old)
    end.
