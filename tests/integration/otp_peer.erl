%% Plays scripts of starts, ends and calls on OTP's supervisor (supervision_otp_test.cpp).
%% usage: escript otp_peer.erl SCRIPTS LOG
-module(otp_peer).
-mode(compile).
-export([main/1, init/1, start/3]).

main([Scripts, Log]) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    {ok, Terms} = file:consult(Scripts),
    ok = file:write_file(Log, [play(T) || T <- Terms]).

%% One script: {script, Seed, Strategy, Intensity, AutoShutdown, Children, Armed, Steps}.
play({script, Seed, Strategy, Intensity, Ends, Children, Armed, Steps}) ->
    IsDynamic = Strategy =:= simple_one_for_one,
    put(is_dynamic, IsDynamic),
    Scribe = spawn_link(fun() -> put(is_dynamic, IsDynamic), scribe(new_book()) end),
    put(scribe, Scribe),
    [tell({arm, Id, Outcome, Times, []}) || {Outcome, Id, Times} <- Armed],
    Flags = #{strategy => Strategy, intensity => Intensity, period => 3600, auto_shutdown => Ends},
    Began = supervisor:start_link(?MODULE, {Flags, [spec(Scribe, C) || C <- Children]}),
    Head = io_lib:format("script ~b~n", [Seed]),
    Story = case Began of
        {ok, Sup} -> [record(Sup, running) | play_steps(Sup, Steps, 1)];
        {error, Why} ->
            receive {'EXIT', _, Why} -> ok end,
            [record(none, {no_start, Why})]
    end,
    unlink(Scribe),
    exit(Scribe, kill),
    [Head | Story].

init(Start) -> {ok, Start}.

play_steps(Sup, [], _) ->
    exit(Sup, shutdown),
    End = await_end(Sup),
    ["stop\n", record(Sup, {ended, End})];
play_steps(Sup, [Step | More], N) ->
    sys:suspend(Sup),
    [act(Sup, A) || A <- Step],
    sys:resume(Sup),
    State = settle(Sup),
    tell(disarm),
    Here = [io_lib:format("step ~b~n", [N]), record(Sup, State)],
    case State of
        running -> [Here | play_steps(Sup, More, N + 1)];
        {ended, _} -> Here
    end.

%% While the supervisor is suspended its mailbox fills in the order of these.
act(Sup, {die, Id, How}) ->
    case tell({address, Id}) of
        Pid when is_pid(Pid) ->
            case is_process_alive(Pid) of
                true ->
                    Waiting = waiting(Sup),
                    end_child(Pid, How),
                    await_more(Sup, Waiting);
                false -> ok
            end;
        none -> ok
    end;
act(_, {fail, Id, Times, Calls}) -> tell({arm, Id, fail, Times, Calls});
act(_, {ignore, Id, Times, Calls}) -> tell({arm, Id, ignore, Times, Calls});
act(Sup, Call) ->
    Waiting = waiting(Sup),
    case tell({call, Sup, Call}) of
        made -> await_more(Sup, Waiting);
        left_out -> ok
    end.

end_child(Pid, kill) -> exit(Pid, kill);
end_child(Pid, shutdown_text) -> Pid ! {die, {shutdown, done}};
end_child(Pid, How) -> Pid ! {die, How}.

waiting(Sup) ->
    {message_queue_len, N} = process_info(Sup, message_queue_len),
    N.

await_more(Sup, Before) ->
    case waiting(Sup) > Before of
        true -> ok;
        false -> erlang:yield(), await_more(Sup, Before)
    end.

%% Until all that was asked is answered, and no child is dead unseen or being restarted.
settle(Sup) ->
    receive {'EXIT', Sup, Why} -> {ended, Why}
    after 0 ->
        case is_calm(Sup) andalso tell(is_answered) of
            true -> running;
            false -> erlang:yield(), settle(Sup)
        end
    end.

is_calm(Sup) ->
    try supervisor:which_children(Sup) of
        Children -> lists:all(fun({_, Pid, _, _}) -> is_settled(Pid) end, Children)
    catch exit:_ -> false
    end.

is_settled(undefined) -> true;
is_settled(restarting) -> false;
is_settled(Pid) -> is_process_alive(Pid).

await_end(Sup) -> receive {'EXIT', Sup, Why} -> Why end.

%% What the scribe heard since the last time, then how things stand.
record(Sup, State) ->
    {Events, Answers} = tell(take),
    [sort_stops(Events), Answers, standing(Sup, State)].

standing(Sup, running) ->
    Children = [child_line(C) || C <- in_order(supervisor:which_children(Sup))],
    Counts = supervisor:count_children(Sup),
    Active = proplists:get_value(active, Counts),
    Count = io_lib:format("count ~s, ~b active", [answer(Counts), Active]),
    [["  ", L, "\n"] || L <- sorted_if_dynamic(Children) ++ [Count]];
standing(_, {no_start, {shutdown, {failed_to_start_child, Id, _}}}) ->
    io_lib:format("  no start: ~s~n", [Id]);
standing(_, {no_start, {start_spec, _}}) -> "  no start: bad_spec\n";
standing(_, {no_start, {bad_start_spec, _}}) -> "  no start: bad_spec\n";
standing(_, {no_start, Why}) -> io_lib:format("  no start: ~p~n", [Why]);
standing(_, {ended, Why}) ->
    io_lib:format("  the supervisor ended: ~p~n  left: ~b~n", [Why, tell(alive)]).

%% A supervisor answers with the newest first.
in_order(Children) -> lists:reverse(Children).
sorted_if_dynamic(Lines) ->
    case get(is_dynamic) of true -> lists:sort(Lines); false -> Lines end.

%% A dynamic supervisor stops all its children at once: their order is chance.
sort_stops(Events) ->
    case get(is_dynamic) of
        true -> sort_runs(Events, []);
        false -> Events
    end.
sort_runs([], Run) -> lists:sort(Run);
sort_runs(["  asked" ++ _ = E | More], Run) -> sort_runs(More, [E | Run]);
sort_runs([E | More], Run) -> lists:sort(Run) ++ [E | sort_runs(More, [])].

child_line({undefined, Pid, _, _}) -> tell({line_of, Pid});
child_line({Id, undefined, _, _}) -> io_lib:format("~s stopped", [Id]);
child_line({Id, Pid, Type, _}) when is_pid(Pid) -> io_lib:format("~s ~s ~s",
    [Id, Type, tell({incarnation, Id})]).

%% A child: {Id, Restart, Significant, Shutdown, Type, Manner}.
spec(Scribe, {Id, Restart, Significant, Shutdown, Type, Manner}) ->
    #{id => Id, start => {?MODULE, start, [Scribe, Manner] ++ own_id(Id)}, restart => Restart,
      significant => Significant, shutdown => Shutdown, type => Type}.

%% The children of a dynamic supervisor bring their ids when they are started.
own_id(template) -> [];
own_id(Id) -> [Id].

%% A child's start function, in the supervisor's process.
start(Scribe, Manner, Id) ->
    case tell(Scribe, {starting, Id}) of
        go ->
            Parent = self(),
            Pid = spawn_link(fun() ->
                process_flag(trap_exit, true),
                Parent ! {self(), ready},
                child(Scribe, Parent, Id, Manner)
            end),
            receive {Pid, ready} -> ok end,
            tell(Scribe, {started, Id, Pid}),
            {ok, Pid};
        fail -> {error, no_luck};
        ignore -> ignore
    end.

child(Scribe, Parent, Id, Manner) ->
    receive
        {die, Reason} -> exit(Reason);
        {'EXIT', Parent, Reason} ->
            case Manner of
                deaf -> child(Scribe, Parent, Id, Manner);
                obedient -> tell(Scribe, {asked, Id}), exit(Reason);
                spiteful -> tell(Scribe, {asked, Id}), exit(crash)
            end
    end.

%% The scribe keeps the order of what it is told, decides how starts go, and makes the calls.
-record(book, {events = [], armed = #{}, pids = #{}, starts = #{}, calls = []}).

new_book() -> #book{}.

tell(What) -> tell(get(scribe), What).
tell(Scribe, What) ->
    Scribe ! {self(), What},
    receive {Scribe, Answer} -> Answer end.

scribe(Book) ->
    receive
        {From, What} when is_pid(From) ->
            {Answer, Next} = hear(What, From, Book),
            From ! {self(), Answer},
            scribe(Next);
        Reply -> scribe(Book#book{calls = [heard(Reply, C) || C <- Book#book.calls]})
    end.

hear({starting, Id}, Sup, B) ->
    {Outcome, Calls, Armed} = case maps:get(Id, B#book.armed, none) of
        none -> {go, [], B#book.armed};
        {How, 1, Within} -> {How, Within, maps:remove(Id, B#book.armed)};
        {How, N, Within} -> {How, Within, (B#book.armed)#{Id => {How, N - 1, []}}}
    end,
    Word = case Outcome of go -> "start"; _ -> atom_to_list(Outcome) end,
    Noted = note("~s ~s", [Word, Id], B#book{armed = Armed}),
    {Outcome, lists:foldl(fun(C, In) -> element(2, call(Sup, C, In)) end, Noted, Calls)};
hear({started, Id, Pid}, _, B) ->
    N = maps:get(Id, B#book.starts, 0) + 1,
    {ok, B#book{pids = (B#book.pids)#{Id => Pid}, starts = (B#book.starts)#{Id => N}}};
hear({asked, Id}, _, B) -> {ok, note("asked ~s", [Id], B)};
hear({arm, Id, How, Times, Calls}, _, B) ->
    {ok, B#book{armed = (B#book.armed)#{Id => {How, Times, Calls}}}};
hear(disarm, _, B) -> {ok, B#book{armed = #{}}};
hear({call, Sup, Call}, _, B) -> call(Sup, Call, B);
hear({address, Id}, _, B) -> {maps:get(Id, B#book.pids, none), B};
hear({incarnation, Id}, _, B) -> {integer_to_list(maps:get(Id, B#book.starts, 0)), B};
hear({line_of, restarting}, _, B) -> {"restarting", B};
hear({line_of, Pid}, _, B) ->
    [Id] = [I || {I, P} <- maps:to_list(B#book.pids), P =:= Pid],
    {io_lib:format("~s ~b", [Id, maps:get(Id, B#book.starts)]), B};
hear(is_answered, _, B) -> {lists:all(fun({_, _, A}) -> A =/= none end, B#book.calls), B};
hear(alive, _, B) -> {length([P || P <- maps:values(B#book.pids), is_process_alive(P)]), B};
hear(take, _, B) ->
    Settled = [await(C) || C <- B#book.calls],
    Answers = [["  ", Text, ": ", A, "\n"] || {_, Text, A} <- Settled],
    {{lists:reverse(B#book.events), Answers}, B#book{events = [], calls = []}}.

note(Format, Args, B) ->
    Line = lists:flatten(io_lib:format("  " ++ Format ++ "~n", Args)),
    B#book{events = [Line | B#book.events]}.

%% {Request, Words, Answer} in the order of the calls. Dynamic children that are dead already are
%% not ended: OTP says ok to that, ours that there is none.
call(Sup, {terminate_address, Id} = Call, B) ->
    case maps:get(Id, B#book.pids, none) of
        Pid when is_pid(Pid) ->
            case is_process_alive(Pid) of
                true -> make_call(Sup, Call, B);
                false -> {left_out, B}
            end;
        none -> {left_out, B}
    end;
call(Sup, Call, B) -> make_call(Sup, Call, B).

make_call(Sup, Call, B) ->
    {Request, Words} = request(Call, B),
    {made, B#book{calls = B#book.calls ++ [{gen_server:send_request(Sup, Request), Words, none}]}}.

request({start, {Id, _, _, _, _, _} = Child}, _) ->
    {{start_child, spec(self(), Child)}, ["start ", atom_to_list(Id)]};
request({add, Id}, _) -> {{start_child, [Id]}, ["start ", atom_to_list(Id)]};
request({terminate_address, Id}, B) ->
    {{terminate_child, maps:get(Id, B#book.pids)}, ["terminate ", atom_to_list(Id)]};
request({terminate, Id}, _) -> {{terminate_child, Id}, ["terminate ", atom_to_list(Id)]};
request({restart, Id}, _) -> {{restart_child, Id}, ["restart ", atom_to_list(Id)]};
request({delete, Id}, _) -> {{delete_child, Id}, ["delete ", atom_to_list(Id)]};
request({spec, Id}, _) -> {{get_childspec, Id}, ["spec ", atom_to_list(Id)]};
request(which, _) -> {which_children, "which"};
request(count, _) -> {count_children, "count"}.

heard(Reply, {Request, Words, none} = Call) ->
    case gen_server:check_response(Reply, Request) of
        no_reply -> Call;
        {reply, Answer} -> {Request, Words, answer(Answer)};
        {error, _} -> {Request, Words, "gone"}
    end;
heard(_, Call) -> Call.

%% A call that is not answered waits for a supervisor that has ended.
await({_, _, none} = Call) ->
    receive Reply -> await(heard(Reply, Call)) end;
await(Call) -> Call.

answer(ok) -> "ok";
answer({ok, #{restart := Restart}}) -> atom_to_list(Restart);
answer({ok, _}) -> "ok";
answer({error, {already_started, _}}) -> "already_started";
answer({error, already_present}) -> "already_present";
answer({error, running}) -> "running";
answer({error, restarting}) -> "restarting";
answer({error, not_found}) -> "not_found";
answer({error, no_luck}) -> "failed";
answer({error, {no_luck, _}}) -> "failed";
answer({error, {bad_combination, _}}) -> "bad_spec";
answer({error, {invalid_significant, _}}) -> "bad_spec";
answer({error, Other}) -> io_lib:format("~p", [Other]);
%% Which are active is asked between the steps only: OTP looks at the processes themselves, also at
%% those whose end it has not heard of yet. A dynamic supervisor of OTP counts its template as its
%% specs, ours its children.
answer([{specs, S}, {active, _}, {supervisors, P}, {workers, W}]) ->
    Specs = case get(is_dynamic) of true -> "-"; false -> integer_to_list(S) end,
    io_lib:format("~s ~b ~b", [Specs, P, W]);
answer(Children) ->
    Words = [which_words(C) || C <- in_order(Children)],
    lists:join(" ", sorted_if_dynamic(Words)).

which_words({undefined, Pid, _, _}) when is_pid(Pid) -> "up";
which_words({undefined, restarting, _, _}) -> "restarting";
which_words({Id, undefined, _, _}) -> [atom_to_list(Id), "=stopped"];
which_words({Id, restarting, _, _}) -> [atom_to_list(Id), "=restarting"];
which_words({Id, _, _, _}) -> [atom_to_list(Id), "=up"].
