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

%% Each restart costs OTP's supervisor a walk over the restarts of the last period, so every 100
%% restarts get a new supervisor: nobody's children fail thousands of times a second.
-define(BATCH, 100).

measure(Restarts, Children) ->
    _ = batch(Children),
    erlang:garbage_collect(),
    Batches = [batch(Children) || _ <- lists:seq(1, max(1, Restarts div ?BATCH))],
    Times = lists:sort(lists:append([T || {T, _, _} <- Batches])),
    At = fun(Share, L) -> lists:nth(1 + round(Share * (length(L) - 1)), lists:sort(L)) end,
    io:format("{\"children\":~b,\"side\":\"erlang\",\"median_us\":~.2f,\"p99_us\":~.2f,"
              "\"spawn_us\":~.2f,\"bytes_per_child\":~b}~n",
              [Children, At(0.5, Times) / 1000, At(0.99, Times) / 1000,
               At(0.5, [S || {_, S, _} <- Batches]) / 1000 / Children,
               At(0.5, [B || {_, _, B} <- Batches]) div Children]).

batch(Children) ->
    Before = erlang:memory(total),
    Began = erlang:monotonic_time(nanosecond),
    {ok, Sup} = supervisor:start_link(?MODULE, {supervisor, Children}),
    Spawned = erlang:monotonic_time(nanosecond) - Began,
    Bytes = erlang:memory(total) - Before,
    Times = [restart(name(1 + I rem Children)) || I <- lists:seq(1, ?BATCH)],
    unlink(Sup),
    Ref = monitor(process, Sup),
    exit(Sup, shutdown),
    receive {'DOWN', Ref, process, Sup, _} -> ok end,
    erlang:garbage_collect(),
    {Times, Spawned, Bytes}.

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
