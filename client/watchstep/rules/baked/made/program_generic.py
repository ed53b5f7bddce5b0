"""Made by `make packs`; not to be edited."""

# mypy: ignore-errors

from watchstep.core.extremes import ExtremeWindow
from watchstep.core.moments import MomentWindow, TrendWindow
from watchstep.core.program import SCOPE, Program, Site
from watchstep.core.spans import Span
from watchstep.core.windows import CountWindow, MedianWindow, RecordWindow, RepeatWindow

globals().update(SCOPE)
RULES = 126226766


def advance(v, w, st, active):
    out = []
    time, event, suspicious = st.time, st.event, st.suspicious
    (v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15, _, _) = v
    (w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, w16, w17, w18, w19, w20, w21, ) = w
    (g0, g1, g2, g3, g4, ) = st.calm
    if 0 in st.present: st.seen[0] = st.age
    if 9 in st.present: st.seen[1] = st.age
    if 4 in st.present: st.seen[2] = st.age
    t1 = st.nonfinite(0) if suspicious else g0
    t2 = w0.count if t1 is w0.steady else _nan if t1 is None else w0.push(t1, time)
    t3 = None if t1 is None else not t1
    t4 = w1.count if t3 is w1.steady else _nan if t3 is None else w1.push(t3, time)
    t5 = st.nonfinite(1) if suspicious else g1
    t6 = w2.count if t5 is w2.steady else _nan if t5 is None else w2.push(t5, time)
    t7 = None if t5 is None else not t5
    t8 = w3.count if t7 is w3.steady else _nan if t7 is None else w3.push(t7, time)
    t9 = (w4.ordered[4] * 0.5 + w4.ordered[5] * 0.5 if len(w4.ordered) == 10 else w4.median())
    t10 = (_nan if len(w6.values) < 10 else w6.high if w6.high >= w6.highs[-1] else w6.highs[-1])
    t11 = (w5.low if w5.seen >= 1.0 else _nan)
    t12 = (0.05 if 0.05 > t11 or 0.05 != 0.05 else t11)
    t13 = 2.0 * t12
    t14 = (w7.low if w7.seen >= 1.0 else _nan)
    t15 = (t14 if t14 > t13 or t14 != t14 else t13)
    t16 = (v0 > t15) if v0 == v0 and t15 == t15 else None
    t17 = w8.count if t16 is w8.steady else _nan if t16 is None else w8.push(t16, time)
    t18 = (v1 if v1 == v1 else 0.0)
    t19 = (t18 > 0.0) if t18 == t18 else None
    t20 = t19
    if not t19:
        t21 = st.nonfinite(2) if suspicious else g2
        t20 = True if t19 or t21 else (None if t19 is None or t21 is None else False)
    t22 = w9.count if t20 is w9.steady else _nan if t20 is None else w9.push(t20, time)
    t23 = w12.count if t20 is w12.steady else _nan if t20 is None else w12.push(t20, time)
    t24 = (v5 > 0.0) if v5 == v5 else None
    t25 = w14.count if t24 is w14.steady else _nan if t24 is None else w14.push(t24, time)
    t26 = (v3 if v3 == v3 else v2)
    t27 = (t26 < 1e-07) if t26 == t26 else None
    t28 = w15.count if t27 is w15.steady else _nan if t27 is None else w15.push(t27, time)
    if v0 - v0 == 0.0:
        w16.seen += 1
        if v0 == w16.last: w16.repeats += 1
        else: w16.last, w16.repeats = v0, 1
    t29 = (v6 > 10.0) if v6 == v6 else None
    t30 = (v6 < 1e-08) if v6 == v6 else None
    t31 = True if t29 or t30 else (None if t29 is None or t30 is None else False)
    t32 = w17.count if t31 is w17.steady else _nan if t31 is None else w17.push(t31, time)
    t33 = (w18.low if w18.seen >= 1.0 else _nan)
    t34 = 1.1 * t33
    t35 = (v7 > t34) if v7 == v7 and t34 == t34 else None
    t36 = w19.count if t35 is w19.steady else _nan if t35 is None else w19.push(t35, time)
    t37 = abs(t33)
    t38 = 0.01 * t37
    t39 = t33 - t38
    t40 = (v7 > t39) if v7 == v7 and t39 == t39 else None
    t41 = w20.count if t40 is w20.steady else _nan if t40 is None else w20.push(t40, time)
    if st.busy:
        pass
        t42 = _ratio((w21.ordered[9] * 0.5 + w21.ordered[10] * 0.5 if len(w21.ordered) == 20 else w21.median()), abs(v8))
        if active[0]:
            t43 = st.nonfinite(3) if suspicious else g3
            if t43 or active[0]:
                out.append((0, t43, True))
        elif ((st.nonfinite(3) if suspicious else g3)): out.append((0, True, True))
        if active[1]:
            t44 = (t4 >= 1.0) if t4 == t4 else None
            t45 = t44
            if t44 is not False:
                t46 = t1
                if t1 is not False:
                    t47 = (t2 >= 2.0) if t2 == t2 else None
                    t46 = t47 if t1 else (False if t1 is False or t47 is False else None)
                t45 = t46 if t44 else (False if t44 is False or t46 is False else None)
            if t45 or active[1]:
                out.append((1, t45, True))
        elif ((t1) and (t2 >= 2.0) and (t4 >= 1.0)): out.append((1, True, True))
        if active[2]:
            t48 = st.seen[1] > 0
            t49 = None if t48 is None else not t48
            t50 = t49
            if t49 is not False:
                t51 = st.seen[0] > 0
                t52 = None if t51 is None else not t51
                t53 = t52
                if t52 is not False:
                    t54 = (t2 >= 5.0) if t2 == t2 else None
                    t55 = t54
                    if t54 is not False:
                        t56 = (t4 >= 1.0) if t4 == t4 else None
                        t55 = t56 if t54 else (False if t54 is False or t56 is False else None)
                    t53 = t55 if t52 else (False if t52 is False or t55 is False else None)
                t50 = t53 if t49 else (False if t49 is False or t53 is False else None)
            if t50 or active[2]:
                out.append((2, t50, True))
        elif ((((st.seen[0] > 0)) is False) and (((st.seen[1] > 0)) is False) and (t2 >= 5.0) and (t4 >= 1.0)): out.append((2, True, True))
        if active[3]:
            t57 = (t6 >= 48.0) if t6 == t6 else None
            t58 = t57
            if t57 is not False:
                t59 = (t8 >= 20.0) if t8 == t8 else None
                t58 = t59 if t57 else (False if t57 is False or t59 is False else None)
            if t58 or active[3]:
                out.append((3, t58, True))
        elif ((t6 >= 48.0) and (t8 >= 20.0)): out.append((3, True, True))
        if active[4]:
            t60 = (t17 >= 3.0) if t17 == t17 else None
            c4 = t60
            if c4 is not False:
                t61 = st.seen[1] > 0
                t62 = st.seen[2] > 0
                t63 = True if t61 or t62 else (None if t61 is None or t62 is None else False)
                if t63: c4 = False
            if c4 or active[4]:
                out.append((4, c4, True))
        elif (t17 >= 3.0) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((4, True, True))
        if active[5]:
            c5 = t20
            if c5 is not False:
                t64 = 10 in st.present
                t65 = t64
                if t64 is not False:
                    t66 = (t18 == 0.0) if t18 == t18 else None
                    t65 = t66 if t64 else (False if t64 is False or t66 is False else None)
                if t65: c5 = False
            if c5 or active[5]:
                out.append((5, c5, True))
        elif ((t18 > 0.0) or ((st.nonfinite(2) if suspicious else g2))) and not (((10 in st.present)) and (t18 == 0.0)): out.append((5, True, True))
        if active[6]:
            t67 = (t23 >= 17.0) if t23 == t23 else None
            t68 = t67
            if not t67:
                t69 = (t22 >= 3.0) if t22 == t22 else None
                t70 = t69
                if t69 is not False:
                    t71 = (w10.low if w10.seen >= 5.0 else _nan)
                    t72 = (t71 < _inf) if t71 == t71 else None
                    t73 = t72
                    if not t72:
                        t74 = (w11.low if w11.seen >= 5.0 else _nan)
                        t75 = (t74 < _inf) if t74 == t74 else None
                        t73 = True if t72 or t75 else (None if t72 is None or t75 is None else False)
                    t70 = t73 if t69 else (False if t69 is False or t73 is False else None)
                t68 = True if t67 or t70 else (None if t67 is None or t70 is None else False)
            if t68 or active[6]:
                out.append((6, t68, True))
        elif ((t23 >= 17.0) or ((t22 >= 3.0) and ((((w10.low if w10.seen >= 5.0 else _nan)) < _inf) or (((w11.low if w11.seen >= 5.0 else _nan)) < _inf)))): out.append((6, True, True))
        if active[7]:
            t76 = (v0 == 0.0) if v0 == v0 else None
            t77 = t76
            if t76 is not False:
                t78 = st.nonfinite(2) if suspicious else g2
                t77 = t78 if t76 else (False if t76 is False or t78 is False else None)
            if t77 or active[7]:
                out.append((7, t77, True))
        elif ((v0 == 0.0) and ((st.nonfinite(2) if suspicious else g2))): out.append((7, True, True))
        if active[8]:
            t79 = st.nonfinite(4) if suspicious else g4
            t80 = t79
            if t79 is not False:
                t81 = w13.last
                t82 = abs(t81)
                t83 = (t82 >= 0.0) if t82 == t82 else None
                t80 = t83 if t79 else (False if t79 is False or t83 is False else None)
            if t80 or active[8]:
                out.append((8, t80, True))
        elif (((st.nonfinite(4) if suspicious else g4)) and (abs((w13.last)) >= 0.0)): out.append((8, True, True))
        if active[9]:
            t84 = (v11 if v11 == v11 else v12)
            t85 = (v12 if v12 == v12 else v11)
            t86 = (t85 if t85 > t84 or t85 != t85 else t84)
            t87 = (t86 > 0.0) if t86 == t86 else None
            if t87 or active[9]:
                out.append((9, t87, True))
        elif (_greatest((v11 if v11 == v11 else v12), (v12 if v12 == v12 else v11)) > 0.0): out.append((9, True, True))
        if active[10]:
            t88 = (v13 > 0.0) if v13 == v13 else None
            if t88 or active[10]:
                out.append((10, t88, True))
        elif (v13 > 0.0): out.append((10, True, True))
        if active[11]:
            if t24 or active[11]:
                out.append((11, t24, True))
        elif (v5 > 0.0): out.append((11, True, True))
        if active[12]:
            t89 = (t25 >= 25.0) if t25 == t25 else None
            if t89 or active[12]:
                out.append((12, t89, True))
        elif (t25 >= 25.0): out.append((12, True, True))
        if active[13]:
            t90 = (t28 >= 10.0) if t28 == t28 else None
            if t90 or active[13]:
                out.append((13, t90, True))
        elif (t28 >= 10.0): out.append((13, True, True))
        if active[14]:
            t91 = (w16.lasts(20.0) if v0 - v0 == 0.0 else None)
            if t91 or active[14]:
                out.append((14, t91, True))
        elif (w16.repeats >= 20 and v0 - v0 == 0.0): out.append((14, True, True))
        if active[15]:
            t92 = (t32 >= 5.0) if t32 == t32 else None
            if t92 or active[15]:
                out.append((15, t92, True))
        elif (t32 >= 5.0): out.append((15, True, True))
        if active[16]:
            t93 = (v14 > 0.5) if v14 == v14 else None
            if t93 or active[16]:
                out.append((16, t93, True))
        elif (v14 > 0.5): out.append((16, True, True))
        if active[17]:
            t94 = (v15 > 0.5) if v15 == v15 else None
            if t94 or active[17]:
                out.append((17, t94, True))
        elif (v15 > 0.5): out.append((17, True, True))
        if active[18]:
            t95 = (t33 > 0.0) if t33 == t33 else None
            t96 = t95
            if t95 is not False:
                t97 = (t36 >= 3.0) if t36 == t36 else None
                t96 = t97 if t95 else (False if t95 is False or t97 is False else None)
            if t96 or active[18]:
                out.append((18, t96, True))
        elif ((t33 > 0.0) and (t36 >= 3.0)): out.append((18, True, True))
        if active[19]:
            t98 = (t41 >= 10.0) if t41 == t41 else None
            if t98 or active[19]:
                out.append((19, t98, True))
        elif (t41 >= 10.0): out.append((19, True, True))
        if active[20]:
            t99 = (t42 > 2.0) if t42 == t42 else None
            if t99 or active[20]:
                out.append((20, t99, True))
        elif (t42 > 2.0): out.append((20, True, True))
        if active[21]:
            t100 = (t42 > 5.0) if t42 == t42 else None
            if t100 or active[21]:
                out.append((21, t100, True))
        elif (t42 > 5.0): out.append((21, True, True))
        if active[22]:
            t101 = event is not None and st.has_event('failed')
            if t101 or active[22]:
                out.append((22, t101, True))
        elif ((event is not None and st.has_event('failed'))): out.append((22, True, True))
        if active[23]:
            t102 = False
            if t102 or active[23]:
                out.append((23, t102, True))
        elif (False): out.append((23, True, True))
        if active[24]:
            t103 = event is not None and st.has_logged('*non-finite*')
            t104 = t103
            if not t103:
                t105 = event is not None and st.has_logged('*nan or inf*')
                t104 = True if t103 or t105 else (None if t103 is None or t105 is None else False)
            if t104 or active[24]:
                out.append((24, t104, True))
        elif (((event is not None and st.has_logged('*non-finite*'))) or ((event is not None and st.has_logged('*nan or inf*')))): out.append((24, True, True))
        if active[25]:
            t106 = event is not None and st.has_logged('*gradient clipping applied with norm*')
            if t106 or active[25]:
                out.append((25, t106, True))
        elif ((event is not None and st.has_logged('*gradient clipping applied with norm*'))): out.append((25, True, True))
        if active[26]:
            t107 = event is not None and st.has_logged('*checkpoint corrupted*')
            t108 = t107
            if not t107:
                t109 = event is not None and st.has_logged('*checkpoint is corrupt*')
                t108 = True if t107 or t109 else (None if t107 is None or t109 is None else False)
            if t108 or active[26]:
                out.append((26, t108, True))
        elif (((event is not None and st.has_logged('*checkpoint corrupted*'))) or ((event is not None and st.has_logged('*checkpoint is corrupt*')))): out.append((26, True, True))
    else:
        pass
        t110 = _ratio((w21.ordered[9] * 0.5 + w21.ordered[10] * 0.5 if len(w21.ordered) == 20 else w21.median()), abs(v8))
        if ((st.nonfinite(3) if suspicious else g3)): out.append((0, True, True))
        if ((t1) and (t2 >= 2.0) and (t4 >= 1.0)): out.append((1, True, True))
        if ((((st.seen[0] > 0)) is False) and (((st.seen[1] > 0)) is False) and (t2 >= 5.0) and (t4 >= 1.0)): out.append((2, True, True))
        if ((t6 >= 48.0) and (t8 >= 20.0)): out.append((3, True, True))
        if (t17 >= 3.0) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((4, True, True))
        if ((t18 > 0.0) or ((st.nonfinite(2) if suspicious else g2))) and not (((10 in st.present)) and (t18 == 0.0)): out.append((5, True, True))
        if ((t23 >= 17.0) or ((t22 >= 3.0) and ((((w10.low if w10.seen >= 5.0 else _nan)) < _inf) or (((w11.low if w11.seen >= 5.0 else _nan)) < _inf)))): out.append((6, True, True))
        if ((v0 == 0.0) and ((st.nonfinite(2) if suspicious else g2))): out.append((7, True, True))
        if (((st.nonfinite(4) if suspicious else g4)) and (abs((w13.last)) >= 0.0)): out.append((8, True, True))
        if (_greatest((v11 if v11 == v11 else v12), (v12 if v12 == v12 else v11)) > 0.0): out.append((9, True, True))
        if (v13 > 0.0): out.append((10, True, True))
        if (v5 > 0.0): out.append((11, True, True))
        if (t25 >= 25.0): out.append((12, True, True))
        if (t28 >= 10.0): out.append((13, True, True))
        if (w16.repeats >= 20 and v0 - v0 == 0.0): out.append((14, True, True))
        if (t32 >= 5.0): out.append((15, True, True))
        if (v14 > 0.5): out.append((16, True, True))
        if (v15 > 0.5): out.append((17, True, True))
        if ((t33 > 0.0) and (t36 >= 3.0)): out.append((18, True, True))
        if (t41 >= 10.0): out.append((19, True, True))
        if (t110 > 2.0): out.append((20, True, True))
        if (t110 > 5.0): out.append((21, True, True))
        if ((event is not None and st.has_event('failed'))): out.append((22, True, True))
        if (False): out.append((23, True, True))
        if (((event is not None and st.has_logged('*non-finite*'))) or ((event is not None and st.has_logged('*nan or inf*')))): out.append((24, True, True))
        if ((event is not None and st.has_logged('*gradient clipping applied with norm*'))): out.append((25, True, True))
        if (((event is not None and st.has_logged('*checkpoint corrupted*'))) or ((event is not None and st.has_logged('*checkpoint is corrupt*')))): out.append((26, True, True))
    if v0 - v0 == 0.0:
        w4.queue.append(v0)
        _insort(w4.ordered, v0)
        if len(w4.queue) > 10: del w4.ordered[_bisect(w4.ordered, w4.queue.popleft())]
        if len(w6.highs) == 1: w6.turn()
        w6.values.append(v0)
        w6.highs.pop()
        w6.lows.pop()
        if v0 >= w6.high: w6.high = v0
        if v0 <= w6.low: w6.low = v0
    if t9 - t9 == 0.0:
        w5.seen += 1
        w5.last = t9
        if not w5.low <= t9 <= w5.largest: w5.widen(t9)
    if t10 - t10 == 0.0:
        w7.seen += 1
        w7.last = t10
        if not w7.low <= t10 <= w7.largest: w7.widen(t10)
    if v2 - v2 == 0.0:
        w10.seen += 1
        w10.last = v2
        if not w10.low <= v2 <= w10.largest: w10.widen(v2)
    if v3 - v3 == 0.0:
        w11.seen += 1
        w11.last = v3
        if not w11.low <= v3 <= w11.largest: w11.widen(v3)
    if v4 - v4 == 0.0:
        w13.seen += 1
        w13.last = v4
        if not w13.low <= v4 <= w13.largest: w13.widen(v4)
    if v7 - v7 == 0.0:
        w18.seen += 1
        w18.last = v7
        if not w18.low <= v7 <= w18.largest: w18.widen(v7)
    if v8 - v8 == 0.0:
        _x = abs(v8)
        w21.queue.append(_x)
        _insort(w21.ordered, _x)
        if len(w21.queue) > 20: del w21.ordered[_bisect(w21.ordered, w21.queue.popleft())]
    return out


PROGRAM = Program(
    slots=('train/loss', 'guard/nonfinite_gradients', 'train/grad_norm', 'train/grad_norm_max', 'rollout/ep_rew_mean', 'guard/skipped', 'guard/update_ratio', 'eval/loss', 'time/fps', 'train/policy_loss', 'train/loss_scale', 'checkpoint/nonfinite_tensors', 'guard/nonfinite_parameters', 'guard/frozen_parameters', 'guard/dead_units', 'guard/saturated_units', ),
    sites=(Site(key='CountWindow(nonfinite(*loss*, *Loss*, *LOSS*, *nll*, *NLL*, *perplexity*, *ppl, *entropy, *xent*, *mse, *MSE*, *elbo*, *ELBO*, *objective, *bits_per_*), 5)', make=CountWindow, span=Span(updates=5)), Site(key='CountWindow(not (nonfinite(*loss*, *Loss*, *LOSS*, *nll*, *NLL*, *perplexity*, *ppl, *entropy, *xent*, *mse, *MSE*, *elbo*, *ELBO*, *objective, *bits_per_*)), 1000)', make=CountWindow, span=Span(updates=1000)), Site(key='CountWindow(nonfinite(*), 50)', make=CountWindow, span=Span(updates=50)), Site(key='CountWindow(not (nonfinite(*)), 1000)', make=CountWindow, span=Span(updates=1000)), Site(key='MedianWindow(train/loss, 10)', make=MedianWindow, span=Span(updates=10)), Site(key='RecordWindow(median(train/loss, 10), None)', make=RecordWindow, span=Span()), Site(key='ExtremeWindow(train/loss, 50)', make=ExtremeWindow, span=Span(updates=50)), Site(key='RecordWindow(max(train/loss, 50), None)', make=RecordWindow, span=Span()), Site(key='CountWindow((train/loss > greatest((2.0 * greatest(lowest(median(train/loss, 10), 1.0), 0.05)), lowest(max(train/loss, 50), 1.0))), 5)', make=CountWindow, span=Span(updates=5)), Site(key='CountWindow((nonfinite(train/grad_norm, train/grad_norm_max) or (known(guard/nonfinite_gradients, 0.0) > 0.0)), 5)', make=CountWindow, span=Span(updates=5)), Site(key='RecordWindow(train/grad_norm, None)', make=RecordWindow, span=Span()), Site(key='RecordWindow(train/grad_norm_max, None)', make=RecordWindow, span=Span()), Site(key='CountWindow((nonfinite(train/grad_norm, train/grad_norm_max) or (known(guard/nonfinite_gradients, 0.0) > 0.0)), 20)', make=CountWindow, span=Span(updates=20)), Site(key='RecordWindow(rollout/ep_rew_mean, None)', make=RecordWindow, span=Span()), Site(key='CountWindow((guard/skipped > 0.0), 25)', make=CountWindow, span=Span(updates=25)), Site(key='CountWindow((known(train/grad_norm_max, train/grad_norm) < 1e-07), 10)', make=CountWindow, span=Span(updates=10)), Site(key='RepeatWindow(train/loss, None, now)', make=RepeatWindow, span=Span()), Site(key='CountWindow(((guard/update_ratio > 10.0) or (guard/update_ratio < 1e-08)), 5)', make=CountWindow, span=Span(updates=5)), Site(key='RecordWindow(eval/loss, None)', make=RecordWindow, span=Span()), Site(key='CountWindow((eval/loss > (1.1 * lowest(eval/loss, 1.0))), 3)', make=CountWindow, span=Span(updates=3)), Site(key='CountWindow((eval/loss > (lowest(eval/loss, 1.0) - (0.01 * abs(lowest(eval/loss, 1.0))))), 10)', make=CountWindow, span=Span(updates=10)), Site(key='MedianWindow(abs(time/fps), 20)', make=MedianWindow, span=Span(updates=20)), ),
    globs=(('*loss*', '*Loss*', '*LOSS*', '*nll*', '*NLL*', '*perplexity*', '*ppl', '*entropy', '*xent*', '*mse', '*MSE*', '*elbo*', '*ELBO*', '*objective', '*bits_per_*', ), ('*', ), ('train/grad_norm', 'train/grad_norm_max', ), ('train/loss', 'train/policy_loss', 'train/value_loss', 'train/entropy_loss', 'train/approx_kl', 'train/std', 'train/advantages_std_raw', 'train/advantages_mean_raw', 'train/advantages_norm_max_abs', 'train/advantages_norm_mean', ), ('rollout/ep_rew_mean', ), ),
    watched=(0, 9, 4, ),
    metrics=((), (), (0, 9, ), (), (0, ), (1, ), (1, 2, 3, ), (0, ), (4, ), (11, 12, ), (13, ), (5, ), (5, ), (3, 2, ), (0, ), (6, ), (14, ), (15, ), (7, ), (7, ), (8, ), (8, ), (), (), (), (), (), ),
    looked_over=((3, ), (0, 0, 0, ), (0, 0, ), (1, 1, ), (), (2, ), (2, 2, ), (2, ), (4, ), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), ),
    clocked=(23, ),
    advance=advance,
)
