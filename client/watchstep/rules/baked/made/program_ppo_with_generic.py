"""Made by `make packs`; not to be edited."""

# mypy: ignore-errors

from watchstep.core.extremes import ExtremeWindow
from watchstep.core.moments import MomentWindow, TrendWindow
from watchstep.core.program import SCOPE, Program, Site
from watchstep.core.spans import Span
from watchstep.core.windows import CountWindow, MedianWindow, RecordWindow, RepeatWindow

globals().update(SCOPE)
RULES = 593958464


def advance(v, w, st, active):
    out = []
    time, event, suspicious = st.time, st.event, st.suspicious
    (v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15, v16, v17, v18, v19, v20, v21, v22, v23, v24, v25, v26, v27, _, _) = v
    (w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, w16, w17, w18, w19, w20, w21, w22, w23, w24, w25, w26, w27, w28, w29, w30, w31, w32, w33, ) = w
    (g0, g1, g2, g3, g4, g5, ) = st.calm
    if 9 in st.present: st.seen[0] = st.age
    if 3 in st.present: st.seen[1] = st.age
    if 5 in st.present: st.seen[2] = st.age
    t1 = (v0 if v0 == v0 else v1)
    t2 = (w4.shift + w4.total / 10 if len(w4.queue) == 10 else w4.mean())
    t3 = (-1e-05 < v6 < 1e-05) if v6 == v6 else None
    t4 = w7.count if t3 is w7.steady else _nan if t3 is None else w7.push(t3, time)
    t5 = st.nonfinite(0) if suspicious else g0
    t6 = w8.count if t5 is w8.steady else _nan if t5 is None else w8.push(t5, time)
    if v5 - v5 == 0.0:
        w9.seen += 1
        if v5 == w9.last: w9.repeats += 1
        else: w9.last, w9.repeats = v5, 1
    if v8 - v8 == 0.0 != v8:
        _x = _log10(abs(v8))
        w11.newest += 1.0
        w11.waiting.append(_x)
    t7 = st.nonfinite(1) if suspicious else g1
    t8 = w12.count if t7 is w12.steady else _nan if t7 is None else w12.push(t7, time)
    t9 = None if t7 is None else not t7
    t10 = w13.count if t9 is w13.steady else _nan if t9 is None else w13.push(t9, time)
    t11 = st.nonfinite(2) if suspicious else g2
    t12 = w14.count if t11 is w14.steady else _nan if t11 is None else w14.push(t11, time)
    t13 = None if t11 is None else not t11
    t14 = w15.count if t13 is w15.steady else _nan if t13 is None else w15.push(t13, time)
    t15 = (w16.ordered[4] * 0.5 + w16.ordered[5] * 0.5 if len(w16.ordered) == 10 else w16.median())
    t16 = (_nan if len(w18.values) < 10 else w18.high if w18.high >= w18.highs[-1] else w18.highs[-1])
    t17 = (w17.low if w17.seen >= 1.0 else _nan)
    t18 = (0.05 if 0.05 > t17 or 0.05 != 0.05 else t17)
    t19 = 2.0 * t18
    t20 = (w19.low if w19.seen >= 1.0 else _nan)
    t21 = (t20 if t20 > t19 or t20 != t20 else t19)
    t22 = (v9 > t21) if v9 == v9 and t21 == t21 else None
    t23 = w20.count if t22 is w20.steady else _nan if t22 is None else w20.push(t22, time)
    t24 = (v10 if v10 == v10 else 0.0)
    t25 = (t24 > 0.0) if t24 == t24 else None
    t26 = t25
    if not t25:
        t27 = st.nonfinite(3) if suspicious else g3
        t26 = True if t25 or t27 else (None if t25 is None or t27 is None else False)
    t28 = w21.count if t26 is w21.steady else _nan if t26 is None else w21.push(t26, time)
    t29 = w24.count if t26 is w24.steady else _nan if t26 is None else w24.push(t26, time)
    t30 = (v11 > 0.0) if v11 == v11 else None
    t31 = w26.count if t30 is w26.steady else _nan if t30 is None else w26.push(t30, time)
    t32 = (t1 < 1e-07) if t1 == t1 else None
    t33 = w27.count if t32 is w27.steady else _nan if t32 is None else w27.push(t32, time)
    if v9 - v9 == 0.0:
        w28.seen += 1
        if v9 == w28.last: w28.repeats += 1
        else: w28.last, w28.repeats = v9, 1
    t34 = (v12 > 10.0) if v12 == v12 else None
    t35 = (v12 < 1e-08) if v12 == v12 else None
    t36 = True if t34 or t35 else (None if t34 is None or t35 is None else False)
    t37 = w29.count if t36 is w29.steady else _nan if t36 is None else w29.push(t36, time)
    t38 = (w30.low if w30.seen >= 1.0 else _nan)
    t39 = 1.1 * t38
    t40 = (v13 > t39) if v13 == v13 and t39 == t39 else None
    t41 = w31.count if t40 is w31.steady else _nan if t40 is None else w31.push(t40, time)
    t42 = abs(t38)
    t43 = 0.01 * t42
    t44 = t38 - t43
    t45 = (v13 > t44) if v13 == v13 and t44 == t44 else None
    t46 = w32.count if t45 is w32.steady else _nan if t45 is None else w32.push(t45, time)
    if st.busy:
        pass
        t47 = (_nan if len(w5.values) < 10 else w5.high if w5.high >= w5.highs[-1] else w5.highs[-1])
        t48 = (_root(_v) if len(w6.queue) == 50 and 1e-8 * (_o := w6.total / 50) * _o < (_v := w6.squares / 50 - _o * _o) < _inf else w6.std())
        t49 = (w6.shift + w6.total / 50 if len(w6.queue) == 50 else w6.mean())
        t50 = _ratio((w33.ordered[9] * 0.5 + w33.ordered[10] * 0.5 if len(w33.ordered) == 20 else w33.median()), abs(v14))
        if active[0]:
            t51 = (_root(v15 - 1.0) if v15 >= 2.0 else _nan)
            t52 = 1.01 * t51
            t53 = (v4 > t52) if v4 == v4 and t52 == t52 else None
            t54 = t53
            if t53 is not False:
                t55 = v4 - t52
                t56 = abs(v16)
                t57 = _ratio(t56, v8)
                t58 = (t57 if t57 == t57 else 0.0)
                t59 = (800000.0 if 800000.0 < t58 or 800000.0 != 800000.0 else t58)
                t60 = 1.2e-07 * t59
                t61 = (t55 > t60) if t55 == t55 and t60 == t60 else None
                t54 = t61 if t53 else (False if t53 is False or t61 is False else None)
            c0 = t54
            if c0 is not False:
                t62 = (v8 > 0.0) if v8 == v8 else None
                t63 = (v8 < 1e-18) if v8 == v8 else None
                t64 = t63 if t62 else (False if t62 is False or t63 is False else None)
                t65 = t64
                if t64 is not False:
                    t66 = 10.0 * t51
                    t67 = (v4 < t66) if v4 == v4 and t66 == t66 else None
                    t65 = t67 if t64 else (False if t64 is False or t67 is False else None)
                if t65: c0 = False
            if c0 or active[0]:
                out.append((0, c0, True))
        elif ((v4 > (1.01 * (_root(v15 - 1.0) if v15 >= 2.0 else _nan))) and ((v4 - (1.01 * (_root(v15 - 1.0) if v15 >= 2.0 else _nan))) > (1.2e-07 * _least(_known((_ratio(abs(v16), v8)), 0.0), 800000.0)))) and not ((v8 > 0.0) and (v8 < 1e-18) and (v4 < (10.0 * (_root(v15 - 1.0) if v15 >= 2.0 else _nan)))): out.append((0, True, True))
        if active[1]:
            t68 = (v17 > 0.01) if v17 == v17 else None
            t69 = t68
            if t68 is not False:
                t70 = (v18 < 0.5) if v18 == v18 else None
                t71 = (v18 > 2.0) if v18 == v18 else None
                t72 = True if t70 or t71 else (None if t70 is None or t71 is None else False)
                t69 = t72 if t68 else (False if t68 is False or t72 is False else None)
            if t69 or active[1]:
                out.append((1, t69, True))
        elif ((v17 > 0.01) and ((v18 < 0.5) or (v18 > 2.0))): out.append((1, True, True))
        if active[2]:
            t73 = 4 in st.present
            t74 = t73
            if t73 is not False:
                t75 = -1.05 * v19
                t76 = (v3 < t75) if v3 == v3 and t75 == t75 else None
                t74 = t76 if t73 else (False if t73 is False or t76 is False else None)
            c2 = t74
            if c2 is not False:
                t77 = abs(v16)
                t78 = 1.2e-05 * t77
                t79 = (v8 < t78) if v8 == v8 and t78 == t78 else None
                if t79: c2 = False
            if c2 or active[2]:
                out.append((2, c2, True))
        elif (((4 in st.present)) and (v3 < (-1.05 * v19))) and not (v8 < (1.2e-05 * abs(v16))): out.append((2, True, True))
        if active[3]:
            t80 = 4 in st.present
            t81 = t80
            if t80 is not False:
                t82 = (v20 == 0.0) if v20 == v20 else None
                t83 = t82
                if t82 is not False:
                    t84 = abs(v3)
                    t85 = abs(v21)
                    t86 = 2.0 * t85
                    t87 = (_root(t86) if t86 >= 0.0 else _nan)
                    t88 = 10.0 * t87
                    t89 = t88 + 0.05
                    t90 = (t84 > t89) if t84 == t84 and t89 == t89 else None
                    t83 = t90 if t82 else (False if t82 is False or t90 is False else None)
                t81 = t83 if t80 else (False if t80 is False or t83 is False else None)
            if t81 or active[3]:
                out.append((3, t81, True))
        elif ((v20 == 0.0) and ((4 in st.present)) and (abs(v3) > ((10.0 * _sqrt((2.0 * abs(v21)))) + 0.05))): out.append((3, True, True))
        if active[4]:
            t91 = (v20 < 0.0) if v20 == v20 else None
            t92 = t91
            if not t91:
                t93 = (v20 > 1.0001) if v20 == v20 else None
                t94 = t93
                if not t93:
                    t95 = (v6 if v6 == v6 else 0.0)
                    t96 = (t95 > 1.0001) if t95 == t95 else None
                    t94 = True if t93 or t96 else (None if t93 is None or t96 is None else False)
                t92 = True if t91 or t94 else (None if t91 is None or t94 is None else False)
            if t92 or active[4]:
                out.append((4, t92, True))
        elif ((v20 > 1.0001) or (v20 < 0.0) or ((v6 if v6 == v6 else 0.0) > 1.0001)): out.append((4, True, True))
        if active[5]:
            t97 = (t1 < _inf) if t1 == t1 else None
            t98 = t97
            if t97 is not False:
                t99 = (t1 > 100.0) if t1 == t1 else None
                t100 = t99
                if t99 is not False:
                    t101 = w0.times_largest(t1, 10.0)
                    t102 = (t101 > 10.0) if t101 == t101 else None
                    t100 = t102 if t99 else (False if t99 is False or t102 is False else None)
                t98 = t100 if t97 else (False if t97 is False or t100 is False else None)
            if t98 or active[5]:
                out.append((5, t98, True))
        elif ((t1 > 100.0) and (t1 < _inf) and ((w0.times_largest(t1, 10.0)) > 10.0)): out.append((5, True, True))
        if active[6]:
            t103 = (v2 > 100.0) if v2 == v2 else None
            t104 = t103
            if t103 is not False:
                t105 = w1.times_largest(v2, 10.0)
                t106 = (t105 > 10.0) if t105 == t105 else None
                t104 = t106 if t103 else (False if t103 is False or t106 is False else None)
            if t104 or active[6]:
                out.append((6, t104, True))
        elif ((v2 > 100.0) and ((w1.times_largest(v2, 10.0)) > 10.0)): out.append((6, True, True))
        if active[7]:
            t107 = (v3 > 1.0 or v3 < -1.0) if v3 == v3 else None
            t108 = t107
            if t107 is not False:
                t109 = w2.times_largest(v3, 10.0)
                t110 = (t109 > 10.0) if t109 == t109 else None
                t108 = t110 if t107 else (False if t107 is False or t110 is False else None)
            if t108 or active[7]:
                out.append((7, t108, True))
        elif ((v3 > 1.0 or v3 < -1.0) and ((w2.times_largest(v3, 10.0)) > 10.0)): out.append((7, True, True))
        if active[8]:
            t111 = (v4 > 20.0) if v4 == v4 else None
            t112 = t111
            if t111 is not False:
                t113 = w3.times_largest(v4, 10.0)
                t114 = (t113 > 10.0) if t113 == t113 else None
                t112 = t114 if t111 else (False if t111 is False or t114 is False else None)
            if t112 or active[8]:
                out.append((8, t112, True))
        elif ((v4 > 20.0) and ((w3.times_largest(v4, 10.0)) > 10.0)): out.append((8, True, True))
        if active[9]:
            t115 = (v4 > 100.0) if v4 == v4 else None
            c9 = t115
            if c9 is not False:
                t116 = 15 in st.present
                t117 = t116
                if t116 is not False:
                    t118 = (_root(v15 - 1.0) if v15 >= 2.0 else _nan)
                    t119 = (v4 <= t118) if v4 == v4 and t118 == t118 else None
                    t117 = t119 if t116 else (False if t116 is False or t119 is False else None)
                if t117: c9 = False
            if c9 or active[9]:
                out.append((9, c9, True))
        elif (v4 > 100.0) and not (((15 in st.present)) and (v4 <= (_root(v15 - 1.0) if v15 >= 2.0 else _nan))): out.append((9, True, True))
        if active[10]:
            t120 = (v21 > 0.3) if v21 == v21 else None
            if t120 or active[10]:
                out.append((10, t120, True))
        elif (v21 > 0.3): out.append((10, True, True))
        if active[11]:
            t121 = (v21 > 10.0) if v21 == v21 else None
            t122 = (v20 > 0.5) if v20 == v20 else None
            t123 = t122 if t121 else (False if t121 is False or t122 is False else None)
            if t123 or active[11]:
                out.append((11, t123, True))
        elif ((v21 > 10.0) and (v20 > 0.5)): out.append((11, True, True))
        if active[12]:
            t124 = (v21 < 1e-06) if v21 == v21 else None
            t125 = (v20 == 0.0) if v20 == v20 else None
            t126 = t125 if t124 else (False if t124 is False or t125 is False else None)
            t127 = t126
            if t126 is not False:
                t128 = st.fired_within(8, 40.0)
                t129 = t128
                if not t128:
                    t130 = st.fired_within(7, 40.0)
                    t131 = t130
                    if not t130:
                        t132 = st.fired_within(5, 40.0)
                        t133 = t132
                        if not t132:
                            t134 = st.fired_within(6, 40.0)
                            t133 = True if t132 or t134 else (None if t132 is None or t134 is None else False)
                        t131 = True if t130 or t133 else (None if t130 is None or t133 is None else False)
                    t129 = True if t128 or t131 else (None if t128 is None or t131 is None else False)
                t127 = t129 if t126 else (False if t126 is False or t129 is False else None)
            if t127 or active[12]:
                out.append((12, t127, True))
        elif ((v21 < 1e-06) and (v20 == 0.0) and (((st.fired_within(5, 40.0))) or ((st.fired_within(6, 40.0))) or ((st.fired_within(7, 40.0))) or ((st.fired_within(8, 40.0))))): out.append((12, True, True))
        if active[13]:
            t135 = t47 - t2
            t136 = abs(t47)
            t137 = 0.5 * t136
            t138 = 6.0 * t48
            t139 = t138 / 3.1622776601683795
            t140 = (t139 if t139 > t137 or t139 != t139 else t137)
            t141 = (t135 > t140) if t135 == t135 and t140 == t140 else None
            c13 = t141
            if c13 is not False:
                t142 = (t47 == 0.0) if t47 == t47 else None
                if t142: c13 = False
            if c13 or active[13]:
                out.append((13, c13, True))
        elif (((t47 - t2) > ((6.0 * t48) / 3.1622776601683795)) and ((t47 - t2) > (0.5 * abs(t47)))) and not (t47 == 0.0): out.append((13, True, True))
        if active[14]:
            t143 = (t4 >= 20.0) if t4 == t4 else None
            t144 = t143
            if t143 is not False:
                t145 = (t6 == 0.0) if t6 == t6 else None
                t144 = t145 if t143 else (False if t143 is False or t145 is False else None)
            t146 = t144
            if t144 is not False:
                t147 = abs(t49)
                t148 = 1e-06 * t147
                t149 = (t48 > t148) if t48 == t48 and t148 == t148 else None
                t146 = t149 if t144 else (False if t144 is False or t149 is False else None)
            if t146 or active[14]:
                out.append((14, t146, True))
        elif ((t4 >= 20.0) and (t6 == 0.0) and (t48 > (1e-06 * abs(t49)))): out.append((14, True, True))
        if active[15]:
            t150 = w10.times_largest(v7, 10.0)
            t151 = (t150 < 0.1) if t150 == t150 else None
            t152 = t151
            if t151 is not False:
                t153 = (-1e-07 < v3 < 1e-07) if v3 == v3 else None
                t154 = t153
                if t153 is not False:
                    t155 = (w9.lasts(40.0) if v5 - v5 == 0.0 else None)
                    t154 = t155 if t153 else (False if t153 is False or t155 is False else None)
                t152 = t154 if t151 else (False if t151 is False or t154 is False else None)
            if t152 or active[15]:
                out.append((15, t152, True))
        elif ((-1e-07 < v3 < 1e-07) and (w9.repeats >= 40 and v5 - v5 == 0.0) and ((w10.times_largest(v7, 10.0)) < 0.1)): out.append((15, True, True))
        if active[16]:
            t156 = (w9.lasts(50.0) if v5 - v5 == 0.0 else None)
            if t156 or active[16]:
                out.append((16, t156, True))
        elif (w9.repeats >= 50 and v5 - v5 == 0.0): out.append((16, True, True))
        if active[17]:
            t157 = abs(t49)
            t158 = 0.01 * t157
            t159 = (t48 < t158) if t48 == t48 and t158 == t158 else None
            c17 = t159
            if c17 is not False:
                t160 = (w9.lasts(50.0) if v5 - v5 == 0.0 else None)
                if t160: c17 = False
            if c17 or active[17]:
                out.append((17, c17, True))
        elif (t48 < (0.01 * abs(t49))) and not (w9.repeats >= 50 and v5 - v5 == 0.0): out.append((17, True, True))
        if active[18]:
            t161 = (v8 < 0.0001) if v8 == v8 else None
            if t161 or active[18]:
                out.append((18, t161, True))
        elif (v8 < 0.0001): out.append((18, True, True))
        if active[19]:
            t162 = abs(v16)
            t163 = 1.2e-05 * t162
            t164 = (v8 < t163) if v8 == v8 and t163 == t163 else None
            if t164 or active[19]:
                out.append((19, t164, True))
        elif (v8 < (1.2e-05 * abs(v16))): out.append((19, True, True))
        if active[20]:
            t165 = (v8 < 0.01) if v8 == v8 else None
            t166 = (v8 >= 0.0001) if v8 == v8 else None
            t167 = t166 if t165 else (False if t165 is False or t166 is False else None)
            t168 = t167
            if t167 is not False:
                t169 = (w11.updates_until(-4.0) if v8 - v8 == 0.0 else _nan)
                t170 = (t169 < 20.0) if t169 == t169 else None
                t168 = t170 if t167 else (False if t167 is False or t170 is False else None)
            if t168 or active[20]:
                out.append((20, t168, True))
        elif ((v8 < 0.01) and (v8 >= 0.0001) and (((w11.updates_until(-4.0) if v8 - v8 == 0.0 else _nan)) < 20.0)): out.append((20, True, True))
        if active[21]:
            t171 = st.nonfinite(4) if suspicious else g4
            if t171 or active[21]:
                out.append((21, t171, True))
        elif ((st.nonfinite(4) if suspicious else g4)): out.append((21, True, True))
        if active[22]:
            t172 = (t10 >= 1.0) if t10 == t10 else None
            t173 = t172
            if t172 is not False:
                t174 = t7
                if t7 is not False:
                    t175 = (t8 >= 2.0) if t8 == t8 else None
                    t174 = t175 if t7 else (False if t7 is False or t175 is False else None)
                t173 = t174 if t172 else (False if t172 is False or t174 is False else None)
            if t173 or active[22]:
                out.append((22, t173, True))
        elif ((t7) and (t8 >= 2.0) and (t10 >= 1.0)): out.append((22, True, True))
        if active[23]:
            t176 = st.seen[1] > 0
            t177 = None if t176 is None else not t176
            t178 = t177
            if t177 is not False:
                t179 = st.seen[0] > 0
                t180 = None if t179 is None else not t179
                t181 = t180
                if t180 is not False:
                    t182 = (t8 >= 5.0) if t8 == t8 else None
                    t183 = t182
                    if t182 is not False:
                        t184 = (t10 >= 1.0) if t10 == t10 else None
                        t183 = t184 if t182 else (False if t182 is False or t184 is False else None)
                    t181 = t183 if t180 else (False if t180 is False or t183 is False else None)
                t178 = t181 if t177 else (False if t177 is False or t181 is False else None)
            if t178 or active[23]:
                out.append((23, t178, True))
        elif ((((st.seen[0] > 0)) is False) and (((st.seen[1] > 0)) is False) and (t8 >= 5.0) and (t10 >= 1.0)): out.append((23, True, True))
        if active[24]:
            t185 = (t12 >= 48.0) if t12 == t12 else None
            t186 = t185
            if t185 is not False:
                t187 = (t14 >= 20.0) if t14 == t14 else None
                t186 = t187 if t185 else (False if t185 is False or t187 is False else None)
            if t186 or active[24]:
                out.append((24, t186, True))
        elif ((t12 >= 48.0) and (t14 >= 20.0)): out.append((24, True, True))
        if active[25]:
            t188 = (t23 >= 3.0) if t23 == t23 else None
            c25 = t188
            if c25 is not False:
                t189 = st.seen[1] > 0
                t190 = st.seen[2] > 0
                t191 = True if t189 or t190 else (None if t189 is None or t190 is None else False)
                if t191: c25 = False
            if c25 or active[25]:
                out.append((25, c25, True))
        elif (t23 >= 3.0) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((25, True, True))
        if active[26]:
            c26 = t26
            if c26 is not False:
                t192 = 22 in st.present
                t193 = t192
                if t192 is not False:
                    t194 = (t24 == 0.0) if t24 == t24 else None
                    t193 = t194 if t192 else (False if t192 is False or t194 is False else None)
                if t193: c26 = False
            if c26 or active[26]:
                out.append((26, c26, True))
        elif ((t24 > 0.0) or ((st.nonfinite(3) if suspicious else g3))) and not (((22 in st.present)) and (t24 == 0.0)): out.append((26, True, True))
        if active[27]:
            t195 = (t29 >= 17.0) if t29 == t29 else None
            t196 = t195
            if not t195:
                t197 = (t28 >= 3.0) if t28 == t28 else None
                t198 = t197
                if t197 is not False:
                    t199 = (w22.low if w22.seen >= 5.0 else _nan)
                    t200 = (t199 < _inf) if t199 == t199 else None
                    t201 = t200
                    if not t200:
                        t202 = (w23.low if w23.seen >= 5.0 else _nan)
                        t203 = (t202 < _inf) if t202 == t202 else None
                        t201 = True if t200 or t203 else (None if t200 is None or t203 is None else False)
                    t198 = t201 if t197 else (False if t197 is False or t201 is False else None)
                t196 = True if t195 or t198 else (None if t195 is None or t198 is None else False)
            if t196 or active[27]:
                out.append((27, t196, True))
        elif ((t29 >= 17.0) or ((t28 >= 3.0) and ((((w22.low if w22.seen >= 5.0 else _nan)) < _inf) or (((w23.low if w23.seen >= 5.0 else _nan)) < _inf)))): out.append((27, True, True))
        if active[28]:
            t204 = (v9 == 0.0) if v9 == v9 else None
            t205 = t204
            if t204 is not False:
                t206 = st.nonfinite(3) if suspicious else g3
                t205 = t206 if t204 else (False if t204 is False or t206 is False else None)
            if t205 or active[28]:
                out.append((28, t205, True))
        elif ((v9 == 0.0) and ((st.nonfinite(3) if suspicious else g3))): out.append((28, True, True))
        if active[29]:
            t207 = st.nonfinite(5) if suspicious else g5
            t208 = t207
            if t207 is not False:
                t209 = w25.last
                t210 = abs(t209)
                t211 = (t210 >= 0.0) if t210 == t210 else None
                t208 = t211 if t207 else (False if t207 is False or t211 is False else None)
            if t208 or active[29]:
                out.append((29, t208, True))
        elif (((st.nonfinite(5) if suspicious else g5)) and (abs((w25.last)) >= 0.0)): out.append((29, True, True))
        if active[30]:
            t212 = (v23 if v23 == v23 else v24)
            t213 = (v24 if v24 == v24 else v23)
            t214 = (t213 if t213 > t212 or t213 != t213 else t212)
            t215 = (t214 > 0.0) if t214 == t214 else None
            if t215 or active[30]:
                out.append((30, t215, True))
        elif (_greatest((v23 if v23 == v23 else v24), (v24 if v24 == v24 else v23)) > 0.0): out.append((30, True, True))
        if active[31]:
            t216 = (v25 > 0.0) if v25 == v25 else None
            if t216 or active[31]:
                out.append((31, t216, True))
        elif (v25 > 0.0): out.append((31, True, True))
        if active[32]:
            if t30 or active[32]:
                out.append((32, t30, True))
        elif (v11 > 0.0): out.append((32, True, True))
        if active[33]:
            t217 = (t31 >= 25.0) if t31 == t31 else None
            if t217 or active[33]:
                out.append((33, t217, True))
        elif (t31 >= 25.0): out.append((33, True, True))
        if active[34]:
            t218 = (t33 >= 10.0) if t33 == t33 else None
            if t218 or active[34]:
                out.append((34, t218, True))
        elif (t33 >= 10.0): out.append((34, True, True))
        if active[35]:
            t219 = (w28.lasts(20.0) if v9 - v9 == 0.0 else None)
            if t219 or active[35]:
                out.append((35, t219, True))
        elif (w28.repeats >= 20 and v9 - v9 == 0.0): out.append((35, True, True))
        if active[36]:
            t220 = (t37 >= 5.0) if t37 == t37 else None
            if t220 or active[36]:
                out.append((36, t220, True))
        elif (t37 >= 5.0): out.append((36, True, True))
        if active[37]:
            t221 = (v26 > 0.5) if v26 == v26 else None
            if t221 or active[37]:
                out.append((37, t221, True))
        elif (v26 > 0.5): out.append((37, True, True))
        if active[38]:
            t222 = (v27 > 0.5) if v27 == v27 else None
            if t222 or active[38]:
                out.append((38, t222, True))
        elif (v27 > 0.5): out.append((38, True, True))
        if active[39]:
            t223 = (t38 > 0.0) if t38 == t38 else None
            t224 = t223
            if t223 is not False:
                t225 = (t41 >= 3.0) if t41 == t41 else None
                t224 = t225 if t223 else (False if t223 is False or t225 is False else None)
            if t224 or active[39]:
                out.append((39, t224, True))
        elif ((t38 > 0.0) and (t41 >= 3.0)): out.append((39, True, True))
        if active[40]:
            t226 = (t46 >= 10.0) if t46 == t46 else None
            if t226 or active[40]:
                out.append((40, t226, True))
        elif (t46 >= 10.0): out.append((40, True, True))
        if active[41]:
            t227 = (t50 > 2.0) if t50 == t50 else None
            if t227 or active[41]:
                out.append((41, t227, True))
        elif (t50 > 2.0): out.append((41, True, True))
        if active[42]:
            t228 = (t50 > 5.0) if t50 == t50 else None
            if t228 or active[42]:
                out.append((42, t228, True))
        elif (t50 > 5.0): out.append((42, True, True))
        if active[43]:
            t229 = event is not None and st.has_event('failed')
            if t229 or active[43]:
                out.append((43, t229, True))
        elif ((event is not None and st.has_event('failed'))): out.append((43, True, True))
        if active[44]:
            t230 = False
            if t230 or active[44]:
                out.append((44, t230, True))
        elif (False): out.append((44, True, True))
        if active[45]:
            t231 = event is not None and st.has_logged('*non-finite*')
            t232 = t231
            if not t231:
                t233 = event is not None and st.has_logged('*nan or inf*')
                t232 = True if t231 or t233 else (None if t231 is None or t233 is None else False)
            if t232 or active[45]:
                out.append((45, t232, True))
        elif (((event is not None and st.has_logged('*non-finite*'))) or ((event is not None and st.has_logged('*nan or inf*')))): out.append((45, True, True))
        if active[46]:
            t234 = event is not None and st.has_logged('*gradient clipping applied with norm*')
            if t234 or active[46]:
                out.append((46, t234, True))
        elif ((event is not None and st.has_logged('*gradient clipping applied with norm*'))): out.append((46, True, True))
        if active[47]:
            t235 = event is not None and st.has_logged('*checkpoint corrupted*')
            t236 = t235
            if not t235:
                t237 = event is not None and st.has_logged('*checkpoint is corrupt*')
                t236 = True if t235 or t237 else (None if t235 is None or t237 is None else False)
            if t236 or active[47]:
                out.append((47, t236, True))
        elif (((event is not None and st.has_logged('*checkpoint corrupted*'))) or ((event is not None and st.has_logged('*checkpoint is corrupt*')))): out.append((47, True, True))
    else:
        pass
        t238 = (_nan if len(w5.values) < 10 else w5.high if w5.high >= w5.highs[-1] else w5.highs[-1])
        t239 = (_root(_v) if len(w6.queue) == 50 and 1e-8 * (_o := w6.total / 50) * _o < (_v := w6.squares / 50 - _o * _o) < _inf else w6.std())
        t240 = (w6.shift + w6.total / 50 if len(w6.queue) == 50 else w6.mean())
        t241 = _ratio((w33.ordered[9] * 0.5 + w33.ordered[10] * 0.5 if len(w33.ordered) == 20 else w33.median()), abs(v14))
        if ((v4 > (1.01 * (_root(v15 - 1.0) if v15 >= 2.0 else _nan))) and ((v4 - (1.01 * (_root(v15 - 1.0) if v15 >= 2.0 else _nan))) > (1.2e-07 * _least(_known((_ratio(abs(v16), v8)), 0.0), 800000.0)))) and not ((v8 > 0.0) and (v8 < 1e-18) and (v4 < (10.0 * (_root(v15 - 1.0) if v15 >= 2.0 else _nan)))): out.append((0, True, True))
        if ((v17 > 0.01) and ((v18 < 0.5) or (v18 > 2.0))): out.append((1, True, True))
        if (((4 in st.present)) and (v3 < (-1.05 * v19))) and not (v8 < (1.2e-05 * abs(v16))): out.append((2, True, True))
        if ((v20 == 0.0) and ((4 in st.present)) and (abs(v3) > ((10.0 * _sqrt((2.0 * abs(v21)))) + 0.05))): out.append((3, True, True))
        if ((v20 > 1.0001) or (v20 < 0.0) or ((v6 if v6 == v6 else 0.0) > 1.0001)): out.append((4, True, True))
        if ((t1 > 100.0) and (t1 < _inf) and ((w0.times_largest(t1, 10.0)) > 10.0)): out.append((5, True, True))
        if ((v2 > 100.0) and ((w1.times_largest(v2, 10.0)) > 10.0)): out.append((6, True, True))
        if ((v3 > 1.0 or v3 < -1.0) and ((w2.times_largest(v3, 10.0)) > 10.0)): out.append((7, True, True))
        if ((v4 > 20.0) and ((w3.times_largest(v4, 10.0)) > 10.0)): out.append((8, True, True))
        if (v4 > 100.0) and not (((15 in st.present)) and (v4 <= (_root(v15 - 1.0) if v15 >= 2.0 else _nan))): out.append((9, True, True))
        if (v21 > 0.3): out.append((10, True, True))
        if ((v21 > 10.0) and (v20 > 0.5)): out.append((11, True, True))
        if ((v21 < 1e-06) and (v20 == 0.0) and (((st.fired_within(5, 40.0))) or ((st.fired_within(6, 40.0))) or ((st.fired_within(7, 40.0))) or ((st.fired_within(8, 40.0))))): out.append((12, True, True))
        if (((t238 - t2) > ((6.0 * t239) / 3.1622776601683795)) and ((t238 - t2) > (0.5 * abs(t238)))) and not (t238 == 0.0): out.append((13, True, True))
        if ((t4 >= 20.0) and (t6 == 0.0) and (t239 > (1e-06 * abs(t240)))): out.append((14, True, True))
        if ((-1e-07 < v3 < 1e-07) and (w9.repeats >= 40 and v5 - v5 == 0.0) and ((w10.times_largest(v7, 10.0)) < 0.1)): out.append((15, True, True))
        if (w9.repeats >= 50 and v5 - v5 == 0.0): out.append((16, True, True))
        if (t239 < (0.01 * abs(t240))) and not (w9.repeats >= 50 and v5 - v5 == 0.0): out.append((17, True, True))
        if (v8 < 0.0001): out.append((18, True, True))
        if (v8 < (1.2e-05 * abs(v16))): out.append((19, True, True))
        if ((v8 < 0.01) and (v8 >= 0.0001) and (((w11.updates_until(-4.0) if v8 - v8 == 0.0 else _nan)) < 20.0)): out.append((20, True, True))
        if ((st.nonfinite(4) if suspicious else g4)): out.append((21, True, True))
        if ((t7) and (t8 >= 2.0) and (t10 >= 1.0)): out.append((22, True, True))
        if ((((st.seen[0] > 0)) is False) and (((st.seen[1] > 0)) is False) and (t8 >= 5.0) and (t10 >= 1.0)): out.append((23, True, True))
        if ((t12 >= 48.0) and (t14 >= 20.0)): out.append((24, True, True))
        if (t23 >= 3.0) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((25, True, True))
        if ((t24 > 0.0) or ((st.nonfinite(3) if suspicious else g3))) and not (((22 in st.present)) and (t24 == 0.0)): out.append((26, True, True))
        if ((t29 >= 17.0) or ((t28 >= 3.0) and ((((w22.low if w22.seen >= 5.0 else _nan)) < _inf) or (((w23.low if w23.seen >= 5.0 else _nan)) < _inf)))): out.append((27, True, True))
        if ((v9 == 0.0) and ((st.nonfinite(3) if suspicious else g3))): out.append((28, True, True))
        if (((st.nonfinite(5) if suspicious else g5)) and (abs((w25.last)) >= 0.0)): out.append((29, True, True))
        if (_greatest((v23 if v23 == v23 else v24), (v24 if v24 == v24 else v23)) > 0.0): out.append((30, True, True))
        if (v25 > 0.0): out.append((31, True, True))
        if (v11 > 0.0): out.append((32, True, True))
        if (t31 >= 25.0): out.append((33, True, True))
        if (t33 >= 10.0): out.append((34, True, True))
        if (w28.repeats >= 20 and v9 - v9 == 0.0): out.append((35, True, True))
        if (t37 >= 5.0): out.append((36, True, True))
        if (v26 > 0.5): out.append((37, True, True))
        if (v27 > 0.5): out.append((38, True, True))
        if ((t38 > 0.0) and (t41 >= 3.0)): out.append((39, True, True))
        if (t46 >= 10.0): out.append((40, True, True))
        if (t241 > 2.0): out.append((41, True, True))
        if (t241 > 5.0): out.append((42, True, True))
        if ((event is not None and st.has_event('failed'))): out.append((43, True, True))
        if (False): out.append((44, True, True))
        if (((event is not None and st.has_logged('*non-finite*'))) or ((event is not None and st.has_logged('*nan or inf*')))): out.append((45, True, True))
        if ((event is not None and st.has_logged('*gradient clipping applied with norm*'))): out.append((46, True, True))
        if (((event is not None and st.has_logged('*checkpoint corrupted*'))) or ((event is not None and st.has_logged('*checkpoint is corrupt*')))): out.append((47, True, True))
    if t1 - t1 == 0.0:
        w0.seen += 1
        w0.last = t1
        if not w0.low <= t1 <= w0.largest: w0.widen(t1)
    if v2 - v2 == 0.0:
        w1.seen += 1
        w1.last = v2
        if not w1.low <= v2 <= w1.largest: w1.widen(v2)
    if v3 - v3 == 0.0:
        w2.seen += 1
        w2.last = v3
        if not w2.low <= v3 <= w2.largest: w2.widen(v3)
    if v4 - v4 == 0.0:
        w3.seen += 1
        w3.last = v4
        if not w3.low <= v4 <= w3.largest: w3.widen(v4)
    if v5 - v5 == 0.0:
        if len(w4.queue) < 10: w4.push(v5, time)
        else:
            _s = w4.shift
            _in, _out = v5 - _s, w4.queue.popleft() - _s
            w4.queue.append(v5)
            _total = w4.total = w4.total + _in - _out
            _squares = w4.squares + _in * _in
            if _squares > w4.peak: w4.peak = _squares
            _squares = w4.squares = _squares - _out * _out
            _left = w4.left = w4.left + 1
            _lost = not 1e-4 * w4.peak <= _squares < _inf or _left >= 256
            if _lost or abs(_s * 10 + _total) < 1e-4 * abs(_s) * 10: w4.sum_again()
        if len(w6.queue) < 50: w6.push(v5, time)
        else:
            _s = w6.shift
            _in, _out = v5 - _s, w6.queue.popleft() - _s
            w6.queue.append(v5)
            _total = w6.total = w6.total + _in - _out
            _squares = w6.squares + _in * _in
            if _squares > w6.peak: w6.peak = _squares
            _squares = w6.squares = _squares - _out * _out
            _left = w6.left = w6.left + 1
            _lost = not 1e-4 * w6.peak <= _squares < _inf or _left >= 256
            if _lost or abs(_s * 50 + _total) < 1e-4 * abs(_s) * 50: w6.sum_again()
        w25.seen += 1
        w25.last = v5
        if not w25.low <= v5 <= w25.largest: w25.widen(v5)
    if t2 - t2 == 0.0:
        if len(w5.highs) == 1: w5.turn()
        w5.values.append(t2)
        w5.highs.pop()
        w5.lows.pop()
        if t2 >= w5.high: w5.high = t2
        if t2 <= w5.low: w5.low = t2
    if v7 - v7 == 0.0:
        w10.seen += 1
        w10.last = v7
        if not w10.low <= v7 <= w10.largest: w10.widen(v7)
    if v9 - v9 == 0.0:
        w16.queue.append(v9)
        _insort(w16.ordered, v9)
        if len(w16.queue) > 10: del w16.ordered[_bisect(w16.ordered, w16.queue.popleft())]
        if len(w18.highs) == 1: w18.turn()
        w18.values.append(v9)
        w18.highs.pop()
        w18.lows.pop()
        if v9 >= w18.high: w18.high = v9
        if v9 <= w18.low: w18.low = v9
    if t15 - t15 == 0.0:
        w17.seen += 1
        w17.last = t15
        if not w17.low <= t15 <= w17.largest: w17.widen(t15)
    if t16 - t16 == 0.0:
        w19.seen += 1
        w19.last = t16
        if not w19.low <= t16 <= w19.largest: w19.widen(t16)
    if v1 - v1 == 0.0:
        w22.seen += 1
        w22.last = v1
        if not w22.low <= v1 <= w22.largest: w22.widen(v1)
    if v0 - v0 == 0.0:
        w23.seen += 1
        w23.last = v0
        if not w23.low <= v0 <= w23.largest: w23.widen(v0)
    if v13 - v13 == 0.0:
        w30.seen += 1
        w30.last = v13
        if not w30.low <= v13 <= w30.largest: w30.widen(v13)
    if v14 - v14 == 0.0:
        _x = abs(v14)
        w33.queue.append(_x)
        _insort(w33.ordered, _x)
        if len(w33.queue) > 20: del w33.ordered[_bisect(w33.ordered, w33.queue.popleft())]
    return out


PROGRAM = Program(
    slots=('train/grad_norm_max', 'train/grad_norm', 'train/value_loss', 'train/policy_loss', 'train/advantages_norm_max_abs', 'rollout/ep_rew_mean', 'train/explained_variance', 'train/entropy_loss', 'train/advantages_std_raw', 'train/loss', 'guard/nonfinite_gradients', 'guard/skipped', 'guard/update_ratio', 'eval/loss', 'time/fps', 'train/advantages_count', 'train/advantages_mean_raw', 'train/advantages_batch_std', 'train/advantages_norm_std', 'train/clip_range', 'train/clip_fraction', 'train/approx_kl', 'train/loss_scale', 'checkpoint/nonfinite_tensors', 'guard/nonfinite_parameters', 'guard/frozen_parameters', 'guard/dead_units', 'guard/saturated_units', ),
    sites=(Site(key='RecordWindow(known(train/grad_norm_max, train/grad_norm), None)', make=RecordWindow, span=Span()), Site(key='RecordWindow(train/value_loss, None)', make=RecordWindow, span=Span()), Site(key='RecordWindow(train/policy_loss, None)', make=RecordWindow, span=Span()), Site(key='RecordWindow(train/advantages_norm_max_abs, None)', make=RecordWindow, span=Span()), Site(key='MomentWindow(rollout/ep_rew_mean, 10)', make=MomentWindow, span=Span(updates=10)), Site(key='ExtremeWindow(mean(rollout/ep_rew_mean, 10), 100)', make=ExtremeWindow, span=Span(updates=100)), Site(key='MomentWindow(rollout/ep_rew_mean, 50)', make=MomentWindow, span=Span(updates=50)), Site(key='CountWindow((abs(train/explained_variance) < 1e-05), 20)', make=CountWindow, span=Span(updates=20)), Site(key='CountWindow(nonfinite(train/explained_variance), 20)', make=CountWindow, span=Span(updates=20)), Site(key='RepeatWindow(rollout/ep_rew_mean, None, now)', make=RepeatWindow, span=Span()), Site(key='RecordWindow(train/entropy_loss, None)', make=RecordWindow, span=Span()), Site(key='TrendWindow(_log10(abs(train/advantages_std_raw)), 20, now)', make=TrendWindow, span=Span(updates=20)), Site(key='CountWindow(nonfinite(*loss*, *Loss*, *LOSS*, *nll*, *NLL*, *perplexity*, *ppl, *entropy, *xent*, *mse, *MSE*, *elbo*, *ELBO*, *objective, *bits_per_*), 5)', make=CountWindow, span=Span(updates=5)), Site(key='CountWindow(not (nonfinite(*loss*, *Loss*, *LOSS*, *nll*, *NLL*, *perplexity*, *ppl, *entropy, *xent*, *mse, *MSE*, *elbo*, *ELBO*, *objective, *bits_per_*)), 1000)', make=CountWindow, span=Span(updates=1000)), Site(key='CountWindow(nonfinite(*), 50)', make=CountWindow, span=Span(updates=50)), Site(key='CountWindow(not (nonfinite(*)), 1000)', make=CountWindow, span=Span(updates=1000)), Site(key='MedianWindow(train/loss, 10)', make=MedianWindow, span=Span(updates=10)), Site(key='RecordWindow(median(train/loss, 10), None)', make=RecordWindow, span=Span()), Site(key='ExtremeWindow(train/loss, 50)', make=ExtremeWindow, span=Span(updates=50)), Site(key='RecordWindow(max(train/loss, 50), None)', make=RecordWindow, span=Span()), Site(key='CountWindow((train/loss > greatest((2.0 * greatest(lowest(median(train/loss, 10), 1.0), 0.05)), lowest(max(train/loss, 50), 1.0))), 5)', make=CountWindow, span=Span(updates=5)), Site(key='CountWindow((nonfinite(train/grad_norm, train/grad_norm_max) or (known(guard/nonfinite_gradients, 0.0) > 0.0)), 5)', make=CountWindow, span=Span(updates=5)), Site(key='RecordWindow(train/grad_norm, None)', make=RecordWindow, span=Span()), Site(key='RecordWindow(train/grad_norm_max, None)', make=RecordWindow, span=Span()), Site(key='CountWindow((nonfinite(train/grad_norm, train/grad_norm_max) or (known(guard/nonfinite_gradients, 0.0) > 0.0)), 20)', make=CountWindow, span=Span(updates=20)), Site(key='RecordWindow(rollout/ep_rew_mean, None)', make=RecordWindow, span=Span()), Site(key='CountWindow((guard/skipped > 0.0), 25)', make=CountWindow, span=Span(updates=25)), Site(key='CountWindow((known(train/grad_norm_max, train/grad_norm) < 1e-07), 10)', make=CountWindow, span=Span(updates=10)), Site(key='RepeatWindow(train/loss, None, now)', make=RepeatWindow, span=Span()), Site(key='CountWindow(((guard/update_ratio > 10.0) or (guard/update_ratio < 1e-08)), 5)', make=CountWindow, span=Span(updates=5)), Site(key='RecordWindow(eval/loss, None)', make=RecordWindow, span=Span()), Site(key='CountWindow((eval/loss > (1.1 * lowest(eval/loss, 1.0))), 3)', make=CountWindow, span=Span(updates=3)), Site(key='CountWindow((eval/loss > (lowest(eval/loss, 1.0) - (0.01 * abs(lowest(eval/loss, 1.0))))), 10)', make=CountWindow, span=Span(updates=10)), Site(key='MedianWindow(abs(time/fps), 20)', make=MedianWindow, span=Span(updates=20)), ),
    globs=(('train/explained_variance', ), ('*loss*', '*Loss*', '*LOSS*', '*nll*', '*NLL*', '*perplexity*', '*ppl', '*entropy', '*xent*', '*mse', '*MSE*', '*elbo*', '*ELBO*', '*objective', '*bits_per_*', ), ('*', ), ('train/grad_norm', 'train/grad_norm_max', ), ('train/loss', 'train/policy_loss', 'train/value_loss', 'train/entropy_loss', 'train/approx_kl', 'train/std', 'train/advantages_std_raw', 'train/advantages_mean_raw', 'train/advantages_norm_max_abs', 'train/advantages_norm_mean', ), ('rollout/ep_rew_mean', ), ),
    watched=(9, 3, 5, ),
    metrics=((4, 15, 16, 8, ), (17, 18, ), (3, 19, 4, ), (3, 21, 20, 4, ), (6, 20, ), (0, 1, ), (2, ), (3, ), (4, ), (4, ), (21, ), (21, 20, ), (21, 20, ), (5, ), (6, 5, ), (5, 3, 7, ), (5, ), (5, ), (8, ), (8, 16, ), (8, ), (), (), (9, 3, ), (), (9, ), (10, ), (10, 1, 0, ), (9, ), (5, ), (23, 24, ), (25, ), (11, ), (11, ), (0, 1, ), (9, ), (12, ), (26, ), (27, ), (13, ), (13, ), (14, ), (14, ), (), (), (), (), (), ),
    looked_over=((), (), (), (), (), (), (), (), (), (), (), (), (), (), (0, ), (), (), (), (), (), (), (4, ), (1, 1, 1, ), (1, 1, ), (2, 2, ), (), (3, ), (3, 3, ), (3, ), (5, ), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), ),
    clocked=(44, ),
    advance=advance,
)
