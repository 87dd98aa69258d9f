# Makes cohort.json with R: Rscript cohort.R <clinical.csv of Lung1>. Made with R 4.2.2 (Debian 12: r-cran-proc, survival).
suppressMessages({library(survival); library(jsonlite); library(pROC)})
smd <- function(x, g) {  # of two groups: numbers (Austin 2009), categories (Yang and Dalton 2012)
  g <- factor(g); a <- x[g == levels(g)[1]]; b <- x[g == levels(g)[2]]
  if (is.numeric(x)) return(abs(mean(a) - mean(b)) / sqrt((var(a) + var(b)) / 2))
  t <- prop.table(table(factor(x), g), 2)[-1, , drop=FALSE]; p <- t[, 1]; q <- t[, 2]
  s <- (diag(p, length(p)) - p %o% p + diag(q, length(q)) - q %o% q) / 2
  sqrt(drop(t(p - q) %*% solve(s) %*% (p - q)))
}
describe <- function(x, g) lapply(split(x, g), function(v) {v <- v[!is.na(v)]
  list(n=length(v), mean=mean(v), sd=sd(v), quartiles=unname(quantile(v, c(.25, .5, .75))))})
data(aSAH); d <- aSAH; o <- d$outcome
number <- function(x) list(groups=describe(x, o), welch=t.test(x ~ o)$p.value, student=t.test(x ~ o, var.equal=TRUE)$p.value,
  mannwhitney=wilcox.test(x ~ o, exact=FALSE)$p.value, f=var.test(x ~ o)$p.value, smd=smd(x, o),
  shapiro=min(tapply(x, o, function(v) shapiro.test(v)$p.value)))
wfns <- as.character(d$wfns)
r <- list(asah=list(
  age=number(d$age), s100b=number(d$s100b), ndka=number(d$ndka),
  gender=list(counts=unclass(table(d$gender, o)), fisher=fisher.test(table(d$gender, o))$p.value,
              chisq=chisq.test(table(d$gender, o), correct=FALSE)$p.value,
              prop=prop.test(table(o, d$gender), correct=FALSE)$p.value, smd=smd(as.character(d$gender), o)),
  wfns=list(counts=unclass(table(wfns, o)), fisher=fisher.test(table(wfns, o), workspace=2e7)$p.value,
            chisq=suppressWarnings(chisq.test(table(wfns, o))$p.value), smd=smd(wfns, o))))
e <- read.csv(commandArgs(TRUE)[1]); e[e == ""] <- NA; e <- e[!is.na(e$Histology), ]; h <- factor(e$Histology)
levene <- function(val, g) {k <- !is.na(val); val <- val[k]; g <- g[k]; z <- abs(val - ave(val, g, FUN=median)); summary(aov(z ~ g))[[1]]$`Pr(>F)`[1]}
pairs <- combn(levels(h), 2)
largest <- function(x) max(apply(pairs, 2, function(p) {k <- h %in% p & !is.na(x); smd(x[k], droplevels(h[k]))}))
fit <- summary(survfit(Surv(Survival.time, deadstatus.event) ~ h, e, conf.type="log-log"))$table
r$lung1 <- list(n=as.list(table(h)),
  age=list(groups=describe(e$age, h), missing=as.list(tapply(is.na(e$age), h, sum)), kruskal=kruskal.test(e$age, h)$p.value,
           anova=summary(aov(age ~ h, e))[[1]]$`Pr(>F)`[1], welch=oneway.test(age ~ h, e)$p.value, levene=levene(e$age, h),
           shapiro=min(tapply(e$age, h, function(v) shapiro.test(v)$p.value)), smd=largest(e$age)),
  gender=list(chisq=chisq.test(table(e$gender, h), correct=FALSE)$p.value, smd=largest(e$gender)),
  stage=list(counts=unclass(table(e$Overall.Stage, h)), missing=sum(is.na(e$Overall.Stage)),
             chisq=chisq.test(table(e$Overall.Stage, h))$p.value, smd=largest(e$Overall.Stage)),
  survival=list(logrank=pchisq(survdiff(Surv(Survival.time, deadstatus.event) ~ h, e)$chisq, nlevels(h) - 1, lower.tail=FALSE),
                events=unname(fit[, "events"]), median=unname(fit[, c("median", "0.95LCL", "0.95UCL")])))
r$lung1$p_holm <- p.adjust(c(age=r$lung1$age$kruskal, gender=r$lung1$gender$chisq, stage=r$lung1$stage$chisq,
                             survival=r$lung1$survival$logrank), "holm")
r$lung1$p_holm <- as.list(r$lung1$p_holm)
writeLines(toJSON(r, digits=I(17), auto_unbox=TRUE), "cohort.json")
