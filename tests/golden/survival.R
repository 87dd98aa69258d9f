# Makes survival.json with R: Rscript survival.R. Made with R 4.2.2 (Debian 12: r-cran-survival 3.5-3, maxstat 0.7-25,
# cmprsk 2.2-11, riskregression 2022.11.28, glmnet 4.1-6, ranger 0.14.1, rms 6.5-0).
# Times have one decimal, so that there are ties; the second cohort has none.
suppressMessages({library(survival); library(maxstat); library(cmprsk); library(riskRegression); library(glmnet)
                  library(ranger); library(rms); library(jsonlite)})
set.seed(20)
n <- 200
d <- data.frame(x1=round(rnorm(n), 3), x2=round(rnorm(n), 3), x3=round(rnorm(n), 3), group=sample(c("a", "b", "c"), n, TRUE))
t1 <- rexp(n, 0.08 * exp(0.7 * d$x1 - 0.4 * d$x2)); t2 <- rexp(n, 0.04 * exp(0.3 * d$x3)); cens <- runif(n, 2, 30)
d$time <- pmax(0.1, round(pmin(t1, t2, cens), 1))
d$cause <- ifelse(pmin(t1, t2) > cens, 0, ifelse(t1 < t2, 1, 2))
d$event <- as.integer(d$cause == 1)
s <- Surv(d$time, d$event)
r <- list(cohort=d)

# Cox, score residual tests, baseline, elimination
f <- coxph(s ~ x1 + x2 + x3, d)
r$cox <- list(coef=unname(coef(f)), se=unname(sqrt(diag(vcov(f)))), loglik=f$loglik)
r$zph <- lapply(c(km="km", rank="rank", identity="identity", log="log"),
                function(k) {z <- cox.zph(f, transform=k)$table; list(chisq=unname(z[, 1]), p=unname(z[, 3]))})
b <- basehaz(f, centered=FALSE); r$baseline_efron <- list(time=b$time, hazard=b$hazard)
fb <- coxph(s ~ x1 + x2 + x3, d, ties="breslow"); b <- basehaz(fb, centered=FALSE)
r$baseline_breslow <- list(time=b$time, hazard=b$hazard, coef=unname(coef(fb)))
q <- coxph(s ~ x1 + x2 + x3 + offset(0.5 * x1 - 0.2 * x2), d)
r$offset <- list(coef=unname(coef(q)), lr=unname(summary(q)$logtest))
l <- na.omit(lung[, c("time", "status", "age", "sex", "ph.ecog", "ph.karno", "pat.karno", "wt.loss")])
lf <- cph(Surv(time, status) ~ age + sex + ph.ecog + ph.karno + pat.karno + wt.loss, l)
r$eliminated <- list(
  kept_p10=fastbw(lf, rule="p", sls=0.1, type="individual")$names.kept,
  kept_aic=names(coef(MASS::stepAIC(coxph(Surv(time, status) ~ age + sex + ph.ecog + ph.karno + pat.karno + wt.loss, l),
                                    direction="backward", trace=0))))

# Kaplan-Meier with both intervals, median with its interval, reverse Kaplan-Meier, log-rank
at <- c(2, 5, 10, 20)
for (kind in c("log", "log-log", "plain")) {
  k <- survfit(s ~ 1, d, conf.type=kind); v <- summary(k, times=at)
  r[[paste0("km_", kind)]] <- list(at=at, surv=v$surv, lower=v$lower, upper=v$upper,
    median=unname(summary(k)$table[c("median", "0.95LCL", "0.95UCL")]))
}
ld <- survdiff(s ~ group, d); r$logrank <- c(ld$chisq, 1 - pchisq(ld$chisq, 2))

# concordance
d$score <- round(d$x1 - 0.5 * d$x2, 1)
for (w in c("n", "n/G2", "S", "I")) {
  k <- concordance(s ~ score, d, reverse=TRUE, timewt=w)
  r$concordance[[w]] <- list(value=unname(k$concordance), se=sqrt(k$var))
}
k <- concordance(s ~ score, d, reverse=TRUE, timewt="n/G2", ymax=15)
r$concordance_ymax15 <- unname(k$concordance)

# time-dependent AUC and Brier of a Cox model (riskRegression)
fx <- coxph(s ~ x1 + x2 + x3, d, x=TRUE)
sc <- Score(list(cox=fx), formula=Surv(time, event) ~ 1, data=d, times=c(5, 10, 15), metrics=c("auc", "brier"),
            summary="IBS", conf.int=TRUE)
r$score <- list(times=c(5, 10, 15), auc=sc$AUC$score$AUC, auc_se=sc$AUC$score$se,
  brier=subset(sc$Brier$score, model == "cox")$Brier, brier_se=subset(sc$Brier$score, model == "cox")$se,
  null=subset(sc$Brier$score, model == "Null model")$Brier)
r$predicted <- unname(predictCox(fx, newdata=d[1:5, ], times=c(5, 10, 15))$survival)

# maximally selected statistic
for (v in c("x1", "x2", "x3")) {
  m <- maxstat.test(s ~ x, data.frame(x=d[[v]]), smethod="LogRank", pmethod="Lau92", minprop=0.1, maxprop=0.9)
  r$maxstat[[v]] <- list(cut=unname(m$estimate), statistic=unname(m$statistic), lau92=m$p.value)
}

# competing risks
ci <- cuminc(d$time, d$cause, d$group)
r$gray <- list(stat=unname(ci$Tests[, "stat"]), p=unname(ci$Tests[, "pv"]))
tp <- cmprsk::timepoints(cuminc(d$time, d$cause), at); r$cuminc <- list(at=at, est=unname(tp$est), var=unname(tp$var))
aj <- survfit(Surv(d$time, factor(d$cause)) ~ 1, conf.type="log-log"); v <- summary(aj, times=at)
r$aalen_johansen <- list(at=at, est=unname(v$pstate), se=unname(v$std.err), lower=unname(v$lower), upper=unname(v$upper))

# penalised Cox; no ties, since glmnet knows Breslow's only
e <- data.frame(matrix(round(rnorm(120 * 8), 3), 120)); e$time <- round(rexp(120, exp(0.8 * e$X1 - 0.5 * e$X2)), 8)
e$event <- rbinom(120, 1, 0.7); X <- as.matrix(e[, 1:8])
r$glmnet <- list(cohort=e)
m <- maxstat.test(Surv(time, event) ~ X1, e, smethod="LogRank", pmethod="Lau92", minprop=0.1, maxprop=0.9)
r$maxstat_untied <- list(cut=unname(m$estimate), statistic=unname(m$statistic), p=m$p.value)
for (a in c(1, 0.5)) {
  g <- glmnet(X, Surv(e$time, e$event), family="cox", alpha=a, lambda=c(0.3, 0.2, 0.1, 0.05), standardize=FALSE,
              thresh=1e-16, maxit=1e7, penalty.factor=c(0, rep(1, 7)))
  r$glmnet[[paste0("alpha", a)]] <- unname(as.matrix(coef(g)))
}
r$glmnet$lambda <- c(0.3, 0.2, 0.1, 0.05)

# forest of ranger: concordance of new patients
set.seed(3)
h <- data.frame(matrix(round(rnorm(600 * 6), 2), 600))
h$time <- round(rexp(600, exp(1.2 * abs(h$X1) + 0.8 * (h$X2 > 0) * h$X3)), 3) + 0.001; h$event <- rbinom(600, 1, 0.75)
rf <- ranger(Surv(time, event) ~ ., h[1:300, ], num.trees=500, splitrule="maxstat", alpha=1, minprop=0.1,
             min.node.size=15, mtry=3, seed=1, num.threads=1)
rl <- ranger(Surv(time, event) ~ ., h[1:300, ], num.trees=500, splitrule="logrank", min.node.size=15, mtry=3, seed=1,
             num.threads=1)
mort <- function(m) rowSums(predict(m, h[301:600, ], num.threads=1)$chf)
cc <- function(m) unname(concordance(Surv(time, event) ~ mort(m), h[301:600, ], reverse=TRUE)$concordance)
r$forest <- list(cohort=h, maxstat=cc(rf), logrank=cc(rl))

# R's own data sets that lifelines has too
lc <- coxph(Surv(time, status) ~ age + sex + ph.ecog, lung)
r$lung <- list(coef=unname(coef(lc)), se=unname(sqrt(diag(vcov(lc)))), concordance=unname(summary(lc)$concordance),
               logrank=survdiff(Surv(time, status) ~ sex, lung)$chisq, zph=unname(cox.zph(lc)$table[, "chisq"]))

# Lung1 (NSCLC-Radiomics), numbers only: LUNG1_CLINICAL is its clinical table, LUNG1_VOLUMES a CSV of PatientID and
# original_shape_MeshVolume (mm3) of GTV-1 of 145 patients, first row of each. Without them the old numbers stay.
if (Sys.getenv("LUNG1_CLINICAL") != "") {
  w <- read.csv(Sys.getenv("LUNG1_CLINICAL")); ws <- Surv(w$Survival.time, w$deadstatus.event)
  wf <- coxph(ws ~ age + (gender == "male") + (clinical.T.Stage >= 3), w)
  v <- merge(w, read.csv(Sys.getenv("LUNG1_VOLUMES"))); vf <- coxph(Surv(Survival.time, deadstatus.event) ~ log(volume), v)
  w2 <- summary(survfit(ws ~ 1, conf.type="log-log"), times=c(365, 730))
  hist <- survdiff(ws ~ Histology, w)
  r$lung1 <- list(coef=unname(coef(wf)), se=unname(sqrt(diag(vcov(wf)))), loglik=wf$loglik,
    concordance=unname(summary(wf)$concordance), zph=unname(cox.zph(wf)$table[, "chisq"]),
    survival=w2$surv, lower=w2$lower, upper=w2$upper,
    median=unname(summary(survfit(ws ~ 1, conf.type="log-log"))$table[c("median", "0.95LCL", "0.95UCL")]),
    histology=c(hist$chisq, length(hist$n)), n=wf$n, events=wf$nevent,
    volume=list(n=vf$n, events=vf$nevent, coef=unname(coef(vf)), se=sqrt(vcov(vf)[1, 1]),
                concordance=unname(summary(vf)$concordance)))
} else if (file.exists("survival.json")) r$lung1 <- fromJSON("survival.json")$lung1
writeLines(toJSON(r, digits=I(17), auto_unbox=TRUE, dataframe="columns"), "survival.json")
